//! Work that is finished even when whoever waits for it leaves.
//!
//! A task of its own would do that, too, at the price of waking two tasks for every answer. So the work
//! runs where it is waited for, and becomes a task only when nobody does any longer: that is rare.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// Work that runs to its end, or until it panics.
pub struct Finish<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

/// The work panicked; the panic has been reported to the process's hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked")]
pub struct Panicked;

/// Begins nothing before it is polled. Dropped in between, inside a tokio runtime, the rest goes on in
/// a task.
pub fn finish<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Finish<T> {
    Finish(Some(Box::pin(work)))
}

impl<T: Send + 'static> Future for Finish<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Taken out, so that what panicked is never polled again.
        let Some(mut work) = self.0.take() else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Ok(Poll::Pending) => {
                self.0 = Some(work);
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

impl<T: Send + 'static> Drop for Finish<T> {
    fn drop(&mut self) {
        // Outside a runtime the process ends.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn what_nobody_waits_for_any_longer_is_finished() {
        let (go, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let work = finish(async move {
            gone.await.unwrap();
            tell.send(7).unwrap();
        });
        assert!(timeout(SOON, work).await.is_err());
        go.send(()).unwrap();
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_whoever_waits() {
        let work = finish(async { std::hint::black_box(None::<u8>).unwrap() });
        assert_eq!(work.await, Err(Panicked));
        assert_eq!(finish(async { 1 }).await, Ok(1));
    }
}
