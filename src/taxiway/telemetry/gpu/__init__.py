"""NVIDIA GPUs, read once a second through NVML, under three dialects: ours, Triton's and DCGM exporter's."""
