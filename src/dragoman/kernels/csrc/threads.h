/* Sharing out work among threads.
 *
 * The caller runs the program and offers one piece of work after the other, cut into tasks that it and
 * idle workers take as they come. It goes on once all tasks are done, and never waits for a worker that has
 * none: one that the system lets wait costs what it would have done, and holds up nobody.
 */
#ifndef DRAGOMAN_THREADS_H
#define DRAGOMAN_THREADS_H

#define MOST_THREADS 1024
#define INSIDE __attribute__((visibility("hidden"))) /* no other library's function of this name instead */

/* Task `number` of a piece of work; thread: a number below the team's, which nobody else has meanwhile. */
typedef void (*Task)(void *work, int number, int thread);

/* Whether there can be more threads than the caller's. */
int parallel(void);

/* Take the workers for a call: how many threads it has then, the caller's included, `wanted` at the most. It is
 * one while another call has the workers, or where none can be had. Ends with leave(). */
INSIDE int enter(int wanted);

/* All tasks, 0 to count - 1, by a team of `threads`; in a team of one by the caller, in order. */
INSIDE void share(int threads, int count, Task task, void *work);

INSIDE void leave(int threads);

#endif
