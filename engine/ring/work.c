/* work - the helper threads. */
#include "ring/work.h"

#include <pthread.h>
#include <signal.h>

/* Disks answer several questions at a time; more threads would only wait for one another. */
#define THREADS_MAX 4

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct cs_work *first, **last;
    unsigned queued, idle, threads;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .last = &pool.first};

static void finished(void *arg)
{
    struct cs_work *w = arg;

    w->works->busy--;
    w->done(w);
}

static void perform(struct cs_work *w)
{
    w->run(w);
    cs_loop_post_with(w->works->loop, &w->post, finished, w);
}

static struct cs_work *take(void)
{
    struct cs_work *w = pool.first;

    pool.first = w->next;
    if (!pool.first) {
        pool.last = &pool.first;
    }
    pool.queued--;
    return w;
}

static void *helper(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "cosockd-files");
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (!pool.first) {
            pool.idle++;
            pthread_cond_wait(&pool.more, &pool.lock);
            pool.idle--;
        }
        struct cs_work *w = take();

        pthread_mutex_unlock(&pool.lock);
        perform(w);
        pthread_mutex_lock(&pool.lock);
    }
    return NULL;
}

/* One more thread, if all are busy and there may be more. It gets no signals. */
static void grow(void)
{
    sigset_t all, before;
    pthread_t thread;

    if (pool.idle > pool.queued || pool.threads == THREADS_MAX) {
        return;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, helper, NULL) == 0) {
        pthread_detach(thread);
        pool.threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void cs_work_start(struct cs_works *ws, struct cs_work *w)
{
    ws->busy++;
    w->works = ws;
    w->next = NULL;
    pthread_mutex_lock(&pool.lock);
    grow();
    bool alone = pool.threads == 0;

    if (!alone) {
        *pool.last = w;
        pool.last = &w->next;
        pool.queued++;
        pthread_cond_signal(&pool.more);
    }
    pthread_mutex_unlock(&pool.lock);
    if (alone) {
        perform(w);
    }
}
