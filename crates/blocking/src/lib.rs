//! Work that blocks: files, and what waits for a database's threads.
//!
//! On a host it is done on other threads, so that it holds up nobody. In a simulation nothing may
//! happen that its seed does not decide, and which of two threads is faster is nothing of that kind:
//! there such work is done [at once](at_once), by whoever asks for it, and takes no time.
//!
//! Work must not wait for the tasks of its own runtime, but for a channel to one: [`produce`] and
//! [`consume`] do that.

use std::cell::Cell;
use std::future::{Future, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Whoever waits for other threads at once looks again after so long, lest they wait for a task.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The niceness of what gives way to everything.
const LEAST_PRIORITY: i32 = 19;

thread_local! {
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// From now on such work is done at once where this thread asks for it.
pub fn at_once() {
    AT_ONCE.set(true);
}

/// Whether this thread does such work itself.
pub fn is_at_once() -> bool {
    AT_ONCE.get()
}

/// Does something that blocks. It is done even if nobody waits for it.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if is_at_once() { tokio::spawn(ready(work())) } else { tokio::task::spawn_blocking(work) }
}

/// Does something that can wait, on a thread of its own that gives way to all others of the host. The
/// program's end does not wait for it. `None` if it panics, or there is no such thread.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if is_at_once() {
        return Some(work());
    }
    let (done, result) = oneshot::channel();
    let work = move || {
        // Linux takes this for the calling thread alone, and for those that it starts.
        let _ = rustix::process::setpriority_process(None, LEAST_PRIORITY);
        let _ = done.send(work());
    };
    thread::Builder::new().name("aside".into()).spawn(work).ok()?;
    result.await.ok()
}

/// Makes values for the other end of a channel, on one thread: until there are no more, or nobody
/// takes them.
pub fn produce<T: Send + 'static>(
    to: mpsc::Sender<T>,
    mut values: impl Iterator<Item = T> + Send + 'static,
) -> JoinHandle<()> {
    if is_at_once() {
        return tokio::spawn(async move {
            while let Some(value) = values.next()
                && to.send(value).await.is_ok()
            {}
        });
    }
    tokio::task::spawn_blocking(move || {
        values.all(|value| to.blocking_send(value).is_ok());
    })
}

/// Gives each value of a channel to what takes them, on one thread, until no more comes or the first
/// error. Returns what took them.
pub fn consume<T: Send + 'static, S: Send + 'static, E: Send + 'static>(
    mut from: mpsc::Receiver<T>,
    mut taker: S,
    mut take: impl FnMut(&mut S, T) -> Result<(), E> + Send + 'static,
) -> JoinHandle<Result<S, E>> {
    if is_at_once() {
        return tokio::spawn(async move {
            while let Some(value) = from.recv().await {
                take(&mut taker, value)?;
            }
            Ok(taker)
        });
    }
    tokio::task::spawn_blocking(move || {
        while let Some(value) = from.blocking_recv() {
            take(&mut taker, value)?;
        }
        Ok(taker)
    })
}

/// Waits for what threads of others do. At once means that no other task runs meanwhile.
pub async fn wait<T>(work: impl Future<Output = T>) -> T {
    if !is_at_once() {
        return work.await;
    }
    let mut work = pin!(work);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    poll_fn(|context| {
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(done);
            }
            let parked = std::time::Instant::now();
            thread::park_timeout(LOOK_AGAIN);
            if parked.elapsed() >= LOOK_AGAIN {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    })
    .await
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_by_another_thread_or_at_once() {
        let here = thread::current().id();
        assert_ne!(run(|| thread::current().id()).await.unwrap(), here);
        at_once();
        assert_eq!(run(|| thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test]
    async fn what_can_wait_is_done_aside_with_the_least_priority() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        assert_eq!(aside(own).await, Some(LEAST_PRIORITY));
        assert_eq!(own(), before, "others keep theirs");
        assert_eq!(aside(|| panic!("as it should")).await, None::<()>);
        at_once();
        assert_eq!(aside(own).await, Some(before));
    }

    #[tokio::test]
    async fn values_go_through_channels_with_threads_and_without() {
        for _ in 0..2 {
            let (to, from) = mpsc::channel(1);
            let made = produce(to, 1..4);
            let sum = consume(from, 0, |sum, value| {
                *sum += value;
                if value < 3 { Ok(()) } else { Err(*sum) }
            });
            assert_eq!(sum.await.unwrap(), Err(6));
            made.await.unwrap();
            at_once();
        }
    }

    #[tokio::test]
    async fn who_waits_at_once_lets_no_other_task_run() {
        at_once();
        let others = tokio::spawn(async {});
        let (told, telling) = oneshot::channel();
        let slow = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            told.send(7)
        });
        assert_eq!(wait(telling).await, Ok(7));
        assert!(!others.is_finished());
        slow.join().unwrap().unwrap();
    }
}
