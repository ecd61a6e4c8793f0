/* The machine on which translated PTX runs: memory with bounds and race checks, and a scheduler of threads.
 *
 * A kernel is one function `step(thread)`, which runs a thread until it must wait for others (a barrier, a warp sync,
 * a shuffle, a vote) or exits. The scheduler runs the threads of a block in an order shuffled by the seed, and releases
 * those that wait once all whom they wait for have come. What real hardware forbids or leaves undefined is a fault
 * here, reported with the PTX line, block and thread.
 */
#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { WARP = 32, POISON = 0xff };            /* 0xff.. is a NaN in both float formats, and no valid address */
enum { READY, AT_BARRIER, AT_WARP, EXITED };  /* what a thread is doing */
enum { NO_FAULT, OUT_OF_BOUNDS, MISALIGNED, RACE, DIVERGENT, UNDEFINED_LANE, ENDLESS, TRAPPED };
enum { NOBODY = -1, SEVERAL = -2 };
enum { GENERIC, GLOBAL, SHARED, LOCAL };      /* state spaces; a generic address tells its space by the top byte */
#define WINDOW(space) ((uint64_t)(space) << 56)

typedef struct { uint8_t *base; uint64_t size; } Region;
typedef struct { uint32_t begin, end; } Span;
typedef struct {                              /* who touched a granule of shared memory, and when */
    uint32_t write_epoch, write_sync, read_epoch, read_sync;
    int32_t writer, reader, read_warp, write_atomic;
} Shadow;
typedef struct Thread {
    int state, point, line, order, reduction; /* `point` is where `step` resumes */
    uint32_t tid[3], lane, warp, mask;
    uint64_t shown, result;                   /* value offered to the others, value received */
    uint8_t *registers, *local;
} Thread;

static struct {
    const uint8_t *params;
    const Region *arrays; int array_count;
    const Span *spans; int span_count;
    uint32_t grid[3], block[3], ctaid[3], threads, shared_bytes, dynamic_bytes, epoch, *syncs;
    uint8_t *shared; Shadow *shadow;
    Thread *pool; uint64_t *snapshot;
    int64_t budget, *report;
    uint64_t random, *visits;
    jmp_buf fault;
} M;

/* supplied by the translated kernel, with REGISTER_BYTES, LOCAL_BYTES, GRANULE and MODULE_REGIONS */
static void step(Thread *t);
static const Region MODULE[] = {MODULE_REGIONS {0, 0}};

static void fault(int kind, const Thread *t, int line, uint64_t address) {
    M.report[1] = line;
    M.report[2] = M.ctaid[0] + (int64_t)M.grid[0] * (M.ctaid[1] + (int64_t)M.grid[1] * M.ctaid[2]);
    M.report[3] = t->order;
    M.report[4] = (int64_t)address;
    longjmp(M.fault, kind);
}

/* A race: two threads touch one granule, one of them at least writing, not both atomically, and nothing between orders
 * the two: neither a block barrier (epoch) nor, inside a warp, a warp sync. */
static void watch_shared(const Thread *t, uint32_t begin, unsigned size, int writes, int atomic, int line) {
    for (uint32_t g = begin / GRANULE; g <= (begin + size - 1) / GRANULE; g++) {
        Shadow *s = M.shadow + g;
        uint32_t sync = M.syncs[t->warp];
        int written = s->write_epoch == M.epoch && s->writer != NOBODY;
        int read = s->read_epoch == M.epoch && s->reader != NOBODY;
        int same_warp = s->writer >= 0 && s->writer / WARP == (int)t->warp;
        int write_ordered = s->writer == t->order || (same_warp && s->write_sync < sync);
        int read_ordered = s->reader == t->order || (s->read_warp == (int)t->warp && s->read_sync < sync);
        if (written && !write_ordered && !(atomic && s->write_atomic)) fault(RACE, t, line, begin);
        if (writes && read && !read_ordered) fault(RACE, t, line, begin);
        if (writes) {
            s->writer = written && atomic && s->write_atomic && s->writer != t->order ? SEVERAL : t->order;
            s->write_epoch = M.epoch; s->write_sync = sync; s->write_atomic = atomic;
        } else {
            s->reader = read && s->reader != t->order ? SEVERAL : t->order;
            s->read_warp = read && s->read_warp != (int)t->warp ? SEVERAL : (int)t->warp;
            s->read_epoch = M.epoch; s->read_sync = sync;
        }
    }
}

static inline int inside(const Region *regions, int count, uint64_t address, unsigned size) {
    for (int k = 0; k < count; k++) {
        uint64_t offset = address - (uint64_t)regions[k].base;
        if (offset < regions[k].size && offset + size <= regions[k].size) return 1;
    }
    return 0;
}

static __attribute__((noinline)) void *locate(int space, uint64_t address, unsigned size, int writes, int atomic,
                                              Thread *t, int line) {
    if (space == GENERIC && (space = (int)(address >> 56))) address -= WINDOW(space);
    if (address % size) fault(MISALIGNED, t, line, address);
    if (space == LOCAL) {
        if (address - 64 >= LOCAL_BYTES || address - 64 + size > LOCAL_BYTES) fault(OUT_OF_BOUNDS, t, line, address);
        return t->local + address - 64;
    }
    if (space == SHARED) {
        for (int k = 0; k < M.span_count; k++)
            if (address >= M.spans[k].begin && address + size <= M.spans[k].end) {
                watch_shared(t, (uint32_t)address, size, writes, atomic, line);
                return M.shared + address;
            }
        fault(OUT_OF_BOUNDS, t, line, address);
    }
    int known = inside(M.arrays, M.array_count, address, size);
    if (!known && !inside(MODULE, sizeof MODULE / sizeof *MODULE, address, size))
        fault(OUT_OF_BOUNDS, t, line, address);
    return (void *)address;
}

/* -- arithmetic that C has no operator for -- */
static inline double f64_of(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }
static inline float f32_of(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }
static inline uint64_t bits_f64(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
static inline uint32_t bits_f32(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
static inline uint64_t bit_field_insert(uint64_t field, uint64_t into, uint32_t at, uint32_t length) {
    uint64_t mask = (length & 255) > 63 ? ~0ull : (1ull << (length & 255)) - 1;
    return (at & 255) > 63 ? into : (into & ~(mask << (at & 255))) | (field & mask) << (at & 255);
}
/* ".ftz": subnormals count as zero; the approximate reciprocal of a double sees and yields its upper 32 bits only */
static inline float flush(float x) { return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x; }
static inline double upper(double x) {
    return fpclassify(x) == FP_SUBNORMAL ? copysign(0, x) : f64_of(bits_f64(x) & 0xffffffff00000000ull);
}
/* a float as an integer; `high` is one past the largest */
#define CLAMPED(type, low, high, x) \
    (isnan(x) ? 0 : (x) < (low) ? (type)(low) : (x) >= (high) ? (type)((high) / 2) - 1 + (type)((high) / 2) : (type)(x))

/* -- scheduling -- */
#define YIELD(where, why, at) t->point = where; t->state = why; t->line = at; return; resume##where:;
/* how often an instruction was executed, by the whole grid and by the first thread of each block */
#define VISIT(at) if (M.visits) { M.visits[2 * (at)]++; M.visits[2 * (at) + 1] += t->order == 0; }
#define LOOP(at) if (--M.budget < 0) fault(ENDLESS, t, at, 0);

static uint64_t draw(void) {                  /* xorshift64* */
    M.random ^= M.random >> 12; M.random ^= M.random << 25; M.random ^= M.random >> 27;
    return (M.random * 0x2545f4914f6cdd1dull) >> 33;
}

static uint64_t from_lane(const Thread *t, uint32_t lane, int line) {
    if (!(t->mask >> lane & 1)) fault(UNDEFINED_LANE, t, line, lane);
    return M.snapshot[t->warp * WARP + lane];
}

static uint64_t ballot(const Thread *t) {
    uint64_t b = 0;
    for (int k = 0; k < WARP; k++) if (t->mask >> k & 1) b |= (uint64_t)(M.snapshot[t->warp * WARP + k] != 0) << k;
    return b;
}

/* The lanes named in a warp sync go on once every one of them has come to that same instruction. */
static int release_warp(Thread *first) {
    for (int k = 0; k < WARP; k++) {
        uint32_t mask = first[k].mask;
        int together = first[k].state == AT_WARP && mask >> k & 1;
        for (int j = 0; j < WARP; j++)
            if (mask >> j & 1)
                together &= first[j].state == AT_WARP && first[j].point == first[k].point && first[j].mask == mask;
        if (!together) continue;
        M.syncs[first->warp]++;
        for (int j = 0; j < WARP; j++)
            if (mask >> j & 1) { first[j].state = READY; M.snapshot[first->warp * WARP + j] = first[j].shown; }
        return 1;
    }
    return 0;
}

/* The block goes on once every one of its threads has come to the same barrier. */
static int release_block(void) {
    uint64_t any = 0, all = 1, count = 0;
    for (uint32_t k = 0; k < M.threads; k++) {
        Thread *t = M.pool + k;
        if (t->state != AT_BARRIER || t->point != M.pool->point) return 0;
        any |= t->shown != 0; all &= t->shown != 0; count += t->shown != 0;
    }
    for (uint32_t k = 0; k < M.threads; k++) {
        M.pool[k].state = READY;
        M.pool[k].result = M.pool[k].reduction == 'o' ? any : M.pool[k].reduction == 'a' ? all : count;
    }
    M.epoch++;
    return 1;
}

static void run_block(uint32_t *order) {
    memset(M.shared, POISON, M.shared_bytes);
    for (uint32_t g = 0; g <= M.shared_bytes / GRANULE; g++) M.shadow[g] = (Shadow){.writer = NOBODY, .reader = NOBODY};
    M.epoch = 1;
    for (uint32_t k = 0; k < M.threads; k++) {
        Thread *t = M.pool + k;
        *t = (Thread){.order = (int)k, .lane = k % WARP, .warp = k / WARP, .registers = t->registers, .local = t->local,
                      .tid = {k % M.block[0], k / M.block[0] % M.block[1], k / M.block[0] / M.block[1]}};
        memset(t->registers, POISON, REGISTER_BYTES);
        memset(t->local, POISON, LOCAL_BYTES);
        order[k] = k; M.syncs[k / WARP] = 1;
    }
    for (;;) {
        uint32_t exited = 0; int progress = 0;
        for (uint32_t k = M.threads; k-- > 1;) {
            uint32_t j = (uint32_t)(draw() % (k + 1)), swap = order[k];
            order[k] = order[j]; order[j] = swap;
        }
        for (uint32_t k = 0; k < M.threads; k++) {  /* a quarter of the threads lags behind: warps drift apart */
            Thread *t = M.pool + order[k];
            if (t->state != READY) { exited += t->state == EXITED; continue; }
            progress = 1;
            if (draw() & 3) { step(t); exited += t->state == EXITED; }
        }
        if (exited == M.threads) return;
        for (uint32_t w = 0; w < M.threads; w += WARP) while (release_warp(M.pool + w)) progress = 1;
        if (release_block()) progress = 1;
        if (!progress) for (uint32_t k = 0; k < M.threads; k++)
            if (M.pool[k].state != EXITED) fault(DIVERGENT, M.pool + k, M.pool[k].line, exited);
    }
}

int64_t launch(const uint8_t *params, const Region *arrays, int array_count, const Span *spans, int span_count,
               const uint32_t *grid, const uint32_t *block, uint32_t shared_bytes, uint32_t dynamic_bytes,
               uint64_t seed, int64_t budget, int64_t *report, uint64_t *visits) {
    M.params = params; M.arrays = arrays; M.array_count = array_count; M.spans = spans; M.span_count = span_count;
    memcpy(M.grid, grid, sizeof M.grid); memcpy(M.block, block, sizeof M.block);
    M.threads = block[0] * block[1] * block[2];
    M.shared_bytes = shared_bytes; M.dynamic_bytes = dynamic_bytes;
    M.random = seed * 0x9e3779b97f4a7c15ull + 1; M.budget = budget; M.report = report; M.visits = visits;
    uint32_t slots = (M.threads + WARP - 1) / WARP * WARP, blocks = grid[0] * grid[1] * grid[2];
    M.shared = malloc(shared_bytes + 16); M.shadow = malloc((shared_bytes / GRANULE + 2) * sizeof(Shadow));
    M.pool = calloc(slots, sizeof(Thread)); M.snapshot = calloc(slots, 8); M.syncs = calloc(slots, 4);
    uint8_t *memory = malloc(slots * (REGISTER_BYTES + LOCAL_BYTES + 32)), *free_memory = memory;
    uint32_t *order = malloc(slots * 4);
    for (uint32_t k = 0; k < slots; k++) {
        M.pool[k].order = (int)k;
        M.pool[k].registers = memory; memory += (REGISTER_BYTES + 15) / 16 * 16;
        M.pool[k].local = memory; memory += (LOCAL_BYTES + 15) / 16 * 16;
    }
    int kind = setjmp(M.fault);
    if (!kind) for (uint32_t b = 0; b < blocks; b++) {
        M.ctaid[0] = b % grid[0]; M.ctaid[1] = b / grid[0] % grid[1]; M.ctaid[2] = b / grid[0] / grid[1];
        run_block(order);
    }
    report[0] = kind;
    free(M.shared); free(M.shadow); free(M.pool); free(M.snapshot); free(M.syncs); free(free_memory); free(order);
    return kind;
}
