"""NVIDIA GPUs, read once a second through NVML, under three dialects: ours, Triton's and DCGM exporter's.

In: the driver's own library, where there is one.
Out: `GpuSampler.points()`: what was read last; nothing where there never was a GPU.
Never: a scrape that waits for a driver, a 0 where a device says nothing.
Read: reading.py and families.py, then nvml.py and sampler.py.
"""
