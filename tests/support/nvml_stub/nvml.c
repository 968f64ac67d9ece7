/* A libnvidia-ml.so.1 without a GPU: it says what a file says (NVML_STUB), which is read anew at every call.
 *
 * Lines are `KEY=VALUE`. Keys of a GPU begin with its index (`0.power=250000`), of an instance of it with both (`0.mig1.`).
 * A key that is not there is not supported; `lost=1` loses every GPU, `hang=1` answers nothing until that is gone.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, TIMED_OUT = 10, LOST = 15 };

typedef unsigned int uint;
typedef unsigned long long ull;
typedef struct { char legacy[16]; uint domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { uint gpu, memory; } rates_t;
typedef struct { ull total, free, used; } memory_t;
typedef struct { uint version; ull total, reserved, free, used; } memory2_t;
typedef union { double d; uint ui; unsigned long ul; ull ull_; long long sll; int si; unsigned short us; } value_t;
typedef struct { uint field, scope; long long at, took; uint type, status; value_t value; } field_t;
typedef struct { uint pid; ull memory; uint gpu_instance, compute_instance; } process_t;
typedef struct { uint sms, copy, decoders, encoders, jpeg, ofa, slices, compute_slices; ull memory_mb; } attributes_t;
typedef struct { void *device; ull type, data; uint gpu_instance, compute_instance; } event_t;
typedef struct { char *short_name, *long_name, *unit; } info_t;
typedef struct { uint id, status; double value; info_t info; } metric_t;
typedef struct { uint version, count; void *before, *now; metric_t metrics[477]; } metrics_t;
typedef struct { uint version, supported; } support_t;

static int find(const char *key, char *text, size_t size) {
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    int found = 0;
    size_t length = strlen(key);
    if (!file) return 0;
    while (!found && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == '=') {
            snprintf(text, size, "%.200s", line + length + 1);
            text[strcspn(text, "\n")] = 0;
            found = 1;
        }
    fclose(file);
    return found;
}

static int ready(void) {
    char text[256];
    while (find("hang", text, sizeof text)) usleep(10000);
    return find("lost", text, sizeof text) ? LOST : SUCCESS;
}

/* Handles are small numbers: a GPU's index and 1, and in the next byte its instance's and 1. */
static void prefix(void *handle, char *text, size_t size) {
    size_t number = (size_t)handle;
    if (number >> 8) snprintf(text, size, "%zu.mig%zu", (number & 255) - 1, (number >> 8) - 1);
    else snprintf(text, size, "%zu", number - 1);
}

static int say(void *handle, const char *name, char *text, size_t size) {
    char key[128], before[64];
    int status = ready();
    if (status) return status;
    prefix(handle, before, sizeof before);
    snprintf(key, sizeof key, "%s.%s", before, name);
    return find(key, text, size) ? SUCCESS : UNSUPPORTED;
}

static int number(void *handle, const char *name, ull *value) {
    char text[256];
    int status = say(handle, name, text, sizeof text);
    if (!status) *value = strtoull(text, NULL, 0);
    return status;
}

static int small(void *handle, const char *name, uint *value) {
    ull told = 0;
    int status = number(handle, name, &told);
    if (!status) *value = (uint)told;
    return status;
}

static int text_of(void *handle, const char *name, char *text, uint size) {
    char told[256];
    int status = say(handle, name, told, sizeof told);
    if (!status) snprintf(text, size, "%s", told);
    return status;
}

int nvmlInitWithFlags(uint flags) {
    char text[256];
    (void)flags;
    return find("gpus", text, sizeof text) ? ready() : NO_DRIVER;
}
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int status) { return status == LOST ? "GPU is lost" : "stub error"; }

int nvmlDeviceGetCount_v2(uint *count) {
    char text[256];
    int status = ready();
    if (status) return status;
    if (!find("gpus", text, sizeof text)) return NO_DRIVER;
    *count = (uint)atoi(text);
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(uint index, void **device) {
    *device = (void *)(size_t)(index + 1);
    return ready();
}
int nvmlSystemGetDriverVersion(char *text, uint size) { snprintf(text, size, "570.1"); return ready(); }
int nvmlDeviceGetUUID(void *d, char *text, uint size) { return text_of(d, "uuid", text, size); }
int nvmlDeviceGetName(void *d, char *text, uint size) { return text_of(d, "name", text, size); }
int nvmlDeviceGetPciInfo_v3(void *d, pci_t *info) { return text_of(d, "bus_id", info->bus_id, 32); }

int nvmlDeviceGetUtilizationRates(void *d, rates_t *rates) {
    int status = small(d, "utilization", &rates->gpu);
    return status ? status : small(d, "memory_utilization", &rates->memory);
}
int nvmlDeviceGetMemoryInfo_v2(void *d, memory2_t *memory) {
    int status = number(d, "memory_total", &memory->total);
    if (status || (status = number(d, "memory_used", &memory->used))) return status;
    memory->reserved = 0;
    number(d, "memory_reserved", &memory->reserved);
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(void *d, memory_t *memory) {
    int status = number(d, "memory_total", &memory->total);
    return status ? status : number(d, "memory_used", &memory->used);
}
int nvmlDeviceGetPowerUsage(void *d, uint *value) { return small(d, "power", value); }
int nvmlDeviceGetEnforcedPowerLimit(void *d, uint *value) { return small(d, "power_limit", value); }
int nvmlDeviceGetTotalEnergyConsumption(void *d, ull *value) { return number(d, "energy", value); }
int nvmlDeviceGetTemperature(void *d, uint sensor, uint *value) { (void)sensor; return small(d, "temperature", value); }
int nvmlDeviceGetFieldValues(void *d, int count, field_t *values) {
    for (int at = 0; at < count; at++) values[at].status = (uint)small(d, "memory_temperature", &values[at].value.ui);
    return ready();
}
int nvmlDeviceGetClockInfo(void *d, uint which, uint *value) {
    return small(d, which == 1 ? "sm_clock" : "memory_clock", value);
}
int nvmlDeviceGetEncoderUtilization(void *d, uint *value, uint *period) { *period = 1; return small(d, "encoder", value); }
int nvmlDeviceGetDecoderUtilization(void *d, uint *value, uint *period) { *period = 1; return small(d, "decoder", value); }
int nvmlDeviceGetPcieReplayCounter(void *d, uint *value) { return small(d, "replays", value); }
int nvmlDeviceGetRemappedRows(void *d, uint *corrected, uint *remapped, uint *pending, uint *failed) {
    *remapped = *pending = *failed = 0;
    return small(d, "rows_corrected", corrected);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, ull *reasons) { return number(d, "throttle", reasons); }
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, uint *count, process_t *processes) {
    ull memory = 0, pid = 0;
    if (number(d, "pid", &pid)) { *count = 0; return SUCCESS; }
    if (!processes) { *count = 1; return TOO_SMALL; }
    number(d, "pid_memory", &memory);
    *count = 1;
    processes[0].pid = (uint)pid;
    processes[0].memory = memory;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *d, uint *now, uint *later) { *later = 0; return small(d, "mig", now); }
int nvmlDeviceGetMaxMigDeviceCount(void *d, uint *count) { (void)d; *count = 7; return ready(); }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, uint index, void **instance) {
    char told[256];
    *instance = (void *)((size_t)d | (size_t)(index + 1) << 8);
    return say(*instance, "uuid", told, sizeof told) ? NOT_FOUND : SUCCESS;
}
int nvmlDeviceGetGpuInstanceId(void *d, uint *id) { return small(d, "id", id); }
int nvmlDeviceGetAttributes_v2(void *d, attributes_t *attributes) {
    int status = small(d, "slices", &attributes->slices);
    return status ? status : number(d, "slice_mb", &attributes->memory_mb);
}

int nvmlEventSetCreate(void **set) { *set = (void *)1; return ready(); }
int nvmlDeviceRegisterEvents(void *d, ull types, void *set) { (void)d; (void)types; (void)set; return SUCCESS; }
int nvmlEventSetWait_v2(void *set, event_t *event, uint timeout_ms) {
    static ull told;
    ull count = 0, xid = 0;
    (void)set; (void)timeout_ms;
    if (number((void *)1, "xids", &count) || told >= count) return TIMED_OUT;
    told++;
    number((void *)1, "xid", &xid);
    event->device = (void *)1;
    event->data = xid;
    return SUCCESS;
}

int nvmlGpmQueryDeviceSupport(void *d, support_t *support) { return small(d, "gpm", &support->supported); }
int nvmlGpmSampleAlloc(void **sample) { *sample = calloc(1, sizeof(size_t)); return SUCCESS; }
int nvmlGpmSampleFree(void *sample) { free(sample); return SUCCESS; }
int nvmlGpmSampleGet(void *d, void *sample) { *(size_t *)sample = (size_t)d; return ready(); }
int nvmlGpmMigSampleGet(void *d, uint instance, void *sample) {
    ull id;
    for (size_t at = 0; at < 7; at++) {
        void *handle = (void *)((size_t)d | (at + 1) << 8);
        if (!number(handle, "id", &id) && id == instance) { *(size_t *)sample = (size_t)handle; return SUCCESS; }
    }
    return NOT_FOUND;
}
int nvmlGpmMetricsGet(metrics_t *asked) {
    for (uint at = 0; at < asked->count; at++) {
        char name[32], text[256];
        snprintf(name, sizeof name, "gpm%u", asked->metrics[at].id);
        asked->metrics[at].status = (uint)say(*(void **)asked->now, name, text, sizeof text);
        if (!asked->metrics[at].status) asked->metrics[at].value = strtod(text, NULL);
    }
    return ready();
}
