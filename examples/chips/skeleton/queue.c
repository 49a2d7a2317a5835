/* Step 6: work is queued and waited for. A thread with a list stands for the chip's own queue. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "skeleton.h"

struct work {
    struct work* next;
    uint32_t count;
    struct launch launches[];
};
struct busbar_stream_of_chip {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct work *first, *last;
    uint64_t queued, done; /* pieces of work */
    int stop;
};
struct busbar_event_of_chip {
    busbar_stream stream;
    uint64_t after;
};

static void* serve(void* argument) {
    busbar_stream s = argument;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct work* w;
        while (!s->first && !s->stop) pthread_cond_wait(&s->changed, &s->lock);
        w = s->first;
        if (!w) break; /* told to stop, and nothing is left */
        s->first = w->next;
        if (!s->first) s->last = 0;
        pthread_mutex_unlock(&s->lock);
        for (uint32_t i = 0; i < w->count; ++i) w->launches[i].kernel(&w->launches[i]);
        free(w);
        pthread_mutex_lock(&s->lock);
        ++s->done;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return 0;
}

int32_t stream_create(busbar_device device, busbar_stream* stream, busbar_error* error) {
    busbar_stream s = calloc(1, sizeof *s);
    pthread_condattr_t attributes;
    (void)device;
    if (!s) return busbar_fail(error, BUSBAR_NO_MEMORY, "no memory for a stream");
    pthread_mutex_init(&s->lock, 0);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&s->thread, 0, serve, s) != 0) {
        free(s);
        return busbar_fail(error, BUSBAR_FAILED, "the system gives no thread");
    }
    *stream = s;
    return BUSBAR_OK;
}

int32_t stream_destroy(busbar_device device, busbar_stream s, busbar_error* error) {
    (void)device;
    (void)error;
    pthread_mutex_lock(&s->lock);
    s->stop = 1;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, 0);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s);
    return BUSBAR_OK;
}

int queue_launches(busbar_stream s, const struct launch* launches, uint32_t count) {
    struct work* w = malloc(sizeof *w + count * sizeof *launches);
    if (!w) return 0;
    w->next = 0;
    w->count = count;
    memcpy(w->launches, launches, count * sizeof *launches);
    pthread_mutex_lock(&s->lock);
    if (s->last)
        s->last->next = w;
    else
        s->first = w;
    s->last = w;
    ++s->queued;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return 1;
}

int32_t event_record(busbar_device device, busbar_stream s, busbar_event* event, busbar_error* error) {
    busbar_event e = malloc(sizeof *e);
    (void)device;
    if (!e) return busbar_fail(error, BUSBAR_NO_MEMORY, "no memory for an event");
    e->stream = s;
    pthread_mutex_lock(&s->lock);
    e->after = s->queued;
    pthread_mutex_unlock(&s->lock);
    *event = e;
    return BUSBAR_OK;
}

int32_t event_wait(busbar_device device, busbar_event e, uint64_t nanoseconds, busbar_error* error) {
    busbar_stream s = e->stream;
    struct timespec until;
    int32_t status = BUSBAR_OK;
    (void)device;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(nanoseconds / 1000000000u);
    until.tv_nsec += (long)(nanoseconds % 1000000000u);
    if (until.tv_nsec >= 1000000000) ++until.tv_sec, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&s->lock);
    while (s->done < e->after && status == BUSBAR_OK)
        if (pthread_cond_timedwait(&s->changed, &s->lock, &until) == ETIMEDOUT && s->done < e->after)
            status = busbar_fail(error, BUSBAR_NOT_READY, "the work goes on");
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* The one who queues waits here: enough for a chip with one queue. Others let the queue itself wait. */
int32_t stream_wait(busbar_device device, busbar_stream stream, busbar_event event, busbar_error* error) {
    if (event->stream == stream) return BUSBAR_OK; /* in order anyway */
    while (event_wait(device, event, 1000000000u, error) == BUSBAR_NOT_READY) {
    }
    return BUSBAR_OK;
}

int32_t event_destroy(busbar_device device, busbar_event event, busbar_error* error) {
    (void)device;
    (void)error;
    free(event);
    return BUSBAR_OK;
}
