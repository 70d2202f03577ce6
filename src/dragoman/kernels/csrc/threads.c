/* The workers: one pool for the process, in which each waits for a while, then sleeps. */
#include "threads.h"

#ifdef DRAGOMAN_PTHREADS

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE __attribute__((aligned(64)))
#define LONGEST 40000 /* nanoseconds that a thread watches for news before it sleeps */
#define SHORTEST 1000

/* Work on offer: the number of the next task, how many there are, and which workers may take part. In one
 * word, so that whoever claims a task knows all three to belong together. Its last bits tell works
 * apart. */
typedef uint64_t Offer;
#define MOST_TASKS 0xffff
#define NEXT(offer) ((int)((offer) & 0xffff))
#define COUNT(offer) ((int)((offer) >> 16 & 0xffff))
#define THREADS(offer) ((int)((offer) >> 32 & 0xfff))
#define OFFER(count, threads, serial) ((Offer)(count) << 16 | (Offer)(threads) << 32 | (Offer)(serial) << 44)

typedef struct {
    Offer offer LINE;
    int done LINE;
    Task task LINE;
    void *work;
    int first; /* number of the first task on offer */
    uint32_t serial;
    int taken; /* a call has the workers */
    int workers;
    int processors;
    int crowded; /* more threads than processors: who watches is in the way of who works */
    int asleep LINE;  /* workers */
    int waiting;      /* the caller sleeps */
    int64_t patience; /* nanoseconds the caller watches; each worker has its own */
    pthread_mutex_t mutex LINE;
    pthread_cond_t offered, finished;
} Pool;

static const Pool NEW = {.patience = LONGEST,
                         .mutex = PTHREAD_MUTEX_INITIALIZER,
                         .offered = PTHREAD_COND_INITIALIZER,
                         .finished = PTHREAD_COND_INITIALIZER};
static Pool pool = {.patience = LONGEST,
                    .mutex = PTHREAD_MUTEX_INITIALIZER,
                    .offered = PTHREAD_COND_INITIALIZER,
                    .finished = PTHREAD_COND_INITIALIZER};

#define READ(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define WRITE(x, value) __atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#define ADD(x, value) __atomic_add_fetch(&(x), value, __ATOMIC_SEQ_CST)

int parallel(void) { return 1; }

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Those that this process may use. */
static int processors(void) {
#ifdef __linux__
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set)) return CPU_COUNT(&set);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static void rest(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int there_is_work(int worker) {
    const Offer offer = READ(pool.offer);
    return NEXT(offer) < COUNT(offer) && worker < THREADS(offer);
}

static int all_is_done(int count) { return READ(pool.done) == count; }

/* Watch for news, as long as it was worth while lately. */
static int watch(int (*news)(int), int argument, int64_t *patience) {
    if (READ(pool.crowded)) return news(argument);
    const int64_t start = now();
    do {
        for (int i = 0; i < 16; i++) {
            if (news(argument)) {
                *patience = *patience * 2 < LONGEST ? *patience * 2 : LONGEST;
                return 1;
            }
            rest();
        }
    } while (now() - start < *patience);
    *patience = *patience / 2 > SHORTEST ? *patience / 2 : SHORTEST;
    return news(argument);
}

/* Take tasks until there are none. */
static void help(int thread) {
    Offer offer = READ(pool.offer);
    while (NEXT(offer) < COUNT(offer) && thread < THREADS(offer)) {
        if (!__atomic_compare_exchange_n(&pool.offer, &offer, offer + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        /* The claim keeps the work as it is until it is done. */
        pool.task(pool.work, pool.first + NEXT(offer), thread);
        if (ADD(pool.done, 1) == COUNT(offer) && READ(pool.waiting)) {
            pthread_mutex_lock(&pool.mutex);
            pthread_cond_signal(&pool.finished);
            pthread_mutex_unlock(&pool.mutex);
        }
        offer = READ(pool.offer);
    }
}

static void *worker(void *number) {
    const int thread = (int)(intptr_t)number;
    int64_t patience = LONGEST;
    for (;;) {
        if (!watch(there_is_work, thread, &patience)) {
            pthread_mutex_lock(&pool.mutex);
            ADD(pool.asleep, 1); /* before it looks once more, as whoever offers looks here after offering */
            while (!there_is_work(thread)) pthread_cond_wait(&pool.offered, &pool.mutex);
            ADD(pool.asleep, -1);
            pthread_mutex_unlock(&pool.mutex);
        }
        help(thread);
    }
    return NULL;
}

/* A forked child has the caller's thread only: its workers are made when they are first needed. */
static void forget(void) { pool = NEW; }

static void at_fork(void) { pthread_atfork(NULL, NULL, forget); }

/* Workers up to `wanted` threads. Signals are the business of the program's own threads. */
static void hire(int wanted) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sigset_t all, before;
    pthread_attr_t detached;
    if (pool.workers + 1 >= wanted) return;
    pthread_once(&once, at_fork);
    if (pthread_attr_init(&detached)) return;
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.workers + 1 < wanted) {
        pthread_t made;
        if (pthread_create(&made, &detached, worker, (void *)(intptr_t)(pool.workers + 1))) break;
        pool.workers++;
    }
    pool.processors = processors();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
}

int enter(int wanted) {
    int nobody = 0;
    if (wanted > MOST_THREADS) wanted = MOST_THREADS;
    if (wanted < 2 || !__atomic_compare_exchange_n(&pool.taken, &nobody, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return 1;
    hire(wanted);
    const int threads = pool.workers + 1 < wanted ? pool.workers + 1 : wanted;
    WRITE(pool.crowded, threads > pool.processors);
    if (threads == 1) WRITE(pool.taken, 0);
    return threads;
}

void leave(int threads) {
    if (threads > 1) WRITE(pool.taken, 0);
}

static void offer(int threads, int count) {
    WRITE(pool.done, 0);
    WRITE(pool.offer, OFFER(count, threads, ++pool.serial));
    if (READ(pool.asleep)) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.offered);
        pthread_mutex_unlock(&pool.mutex);
    }
    help(0);
    if (watch(all_is_done, count, &pool.patience)) return;
    pthread_mutex_lock(&pool.mutex);
    WRITE(pool.waiting, 1);
    while (!all_is_done(count)) pthread_cond_wait(&pool.finished, &pool.mutex);
    WRITE(pool.waiting, 0);
    pthread_mutex_unlock(&pool.mutex);
}

void share(int threads, int count, Task task, void *work) {
    if (threads < 2 || count < 2) {
        for (int number = 0; number < count; number++) task(work, number, 0);
        return;
    }
    pool.task = task;
    pool.work = work;
    for (pool.first = 0; pool.first < count; pool.first += MOST_TASKS)
        offer(threads, count - pool.first < MOST_TASKS ? count - pool.first : MOST_TASKS);
}

#else

int parallel(void) { return 0; }
int enter(int wanted) { return (void)wanted, 1; }
void leave(int threads) { (void)threads; }
void share(int threads, int count, Task task, void *work) {
    (void)threads;
    for (int number = 0; number < count; number++) task(work, number, 0);
}

#endif
