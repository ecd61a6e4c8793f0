/* The face of libcuda.so.1: whoever loads the driver asks for its functions by name, and Python answers. */
#include <stdint.h>

static void *(*find)(const char *);

void answer(void *(*finder)(const char *)) { find = finder; }

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    *function = find(name);
    if (status) *status = !*function;
    return *function ? 0 : 500;  /* CUDA_ERROR_NOT_FOUND */
}

int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}
