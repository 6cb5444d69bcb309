//! A client's connection as bytes: read in turns, and watched.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take},
    time::{Sleep, sleep},
};

use super::traffic::Traffic;

/// What is read at once. hyper doubles a connection's buffer when a read fills it, and so keeps it at 16 KiB:
/// thousands who each send a little would else each make it four times that, and memory that is touched
/// for the first time is most of what they cost.
const PIECE: usize = 16 * 1024 - 1;
/// What one connection may bring before the others have their turn. The runtime itself counts reads, not
/// bytes: it would let a client that sends fast have a thread for many megabytes.
const TURN: usize = 2 * PIECE;

/// How long, and how much, a peer is listened to that does not close when we have.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// A stream that gives way to others, whose first bytes can be looked at, and which may linger.
pub(super) struct Stream<S> {
    /// At most a [`PIECE`] of it is read at once.
    inner: Take<S>,
    /// Read before, to be read again.
    unread: Vec<u8>,
    /// Bytes of this turn.
    turn: usize,
    traffic: Arc<Traffic>,
    lingers: bool,
    /// Our side is closed, and so long the other one is waited for, and so much read of it.
    closed: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S: AsyncRead + Unpin> Stream<S> {
    pub(super) fn new(inner: S, traffic: Arc<Traffic>) -> Self {
        let (unread, turn, lingers, closed) = (Vec::new(), 0, false, None);
        let inner = inner.take(PIECE as u64);
        Self { inner, unread, turn, traffic, lingers, closed }
    }

    /// The same, but when it is shut down it is read until the peer has closed as well. Closing it with unread
    /// bytes would reset it, and take from the peer what it has not read yet: on HTTP/2 the GOAWAY that
    /// tells which of its requests were not taken.
    pub(super) fn lingering(self) -> Self {
        Self { lingers: true, ..self }
    }

    /// Gives bytes back that were read.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.unread.splice(..0, bytes.iter().copied());
    }

    /// Waits until there is something to read, which may be the end: `false`.
    pub(super) async fn begins(&mut self) -> io::Result<bool> {
        let mut first = [0];
        let length = self.read(&mut first).await?;
        self.unread(&first[..length]);
        Ok(length > 0)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.unread.is_empty() {
            let length = this.unread.len().min(into.remaining());
            into.put_slice(&this.unread[..length]);
            this.unread.drain(..length);
            if this.unread.is_empty() {
                this.unread = Vec::new(); // a connection at rest keeps no memory for it
            }
            this.traffic.read();
            return Poll::Ready(Ok(()));
        }
        if this.turn >= TURN {
            this.turn = 0;
            // A task that wakes itself goes behind those that wait already; and this thread behind others
            // that wait for its core, which the kernel would let wait for milliseconds.
            std::thread::yield_now();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        this.inner.set_limit(PIECE as u64);
        let read = Pin::new(&mut this.inner).poll_read(context, into);
        match read {
            Poll::Ready(_) => {
                this.turn += into.filled().len() - before;
                this.traffic.read();
            }
            Poll::Pending => this.turn = 0,
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.traffic.wrote(written.is_ready());
        written
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Reads and forgets what a peer sends that has not heard of the end yet.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((patience, left)) = &mut self.closed else { return Poll::Ready(()) };
        if patience.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut room = [MaybeUninit::uninit(); 4096];
        loop {
            let mut into = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(self.inner.get_mut()).poll_read(context, &mut into));
            *left = left.saturating_sub(into.filled().len());
            if read.is_err() || into.filled().is_empty() || *left == 0 {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.inner.get_mut()).poll_write(context, bytes);
        this.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.inner.get_mut()).poll_write_vectored(context, slices);
        this.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(this.inner.get_mut()).poll_flush(context);
        this.traffic.flushed(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closed.is_none() {
            ready!(Pin::new(this.inner.get_mut()).poll_shutdown(context))?;
            if !this.lingers {
                return Poll::Ready(Ok(()));
            }
            this.closed = Some((Box::pin(sleep(LINGER)), LINGER_BYTES));
        }
        this.poll_linger(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_given_back_come_first() {
        let mut stream = Stream::new(&b"ef"[..], Arc::default());
        stream.unread(b"cd");
        stream.unread(b"ab");
        assert!(stream.begins().await.unwrap());
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "abcdef");
        assert!(!stream.begins().await.unwrap());
    }

    #[tokio::test]
    async fn a_lingering_stream_takes_what_its_peer_still_sends_until_that_closes() {
        let (ours, mut theirs) = duplex(64);
        let mut stream = Stream::new(ours, Arc::default()).lingering();
        let closing = tokio::spawn(async move { stream.shutdown().await });
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0, "our side is closed at once");
        theirs.write_all(&[7; 1000]).await.unwrap();
        assert!(!closing.is_finished());
        drop(theirs);
        closing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn nobody_is_lingered_for_long() {
        let (ours, theirs) = duplex(64);
        let mut stream = Stream::new(ours, Arc::default()).lingering();
        tokio::time::timeout(LINGER * 2, stream.shutdown()).await.unwrap().unwrap();
        drop(theirs);
    }

    #[tokio::test]
    async fn whoever_brings_much_gives_way_after_each_turn() {
        let brought = vec![0; 10 * TURN];
        let mut stream = Stream::new(&brought[..], Arc::default());
        let (mut into, mut read, mut gave_way) = (vec![0; TURN / 2], 0, 0);
        while read < brought.len() {
            match stream.read(&mut into).now_or_never() {
                Some(length) => read += length.unwrap(),
                None => gave_way += 1,
            }
        }
        assert_eq!(gave_way, 9);
    }
}
