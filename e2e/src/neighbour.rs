//! A client that behaves as badly as its key lets it: it floods, it dawdles, and it sends bodies that
//! unfold to a thousand times what they are. And its neighbour, who posts steadily.

use std::{
    collections::BTreeMap,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1024 * 1024;
/// What each slow body brings before it dawdles.
const SLOW_BODY: usize = 100 * 1024;
/// What each slow head brings before it dawdles.
const SLOW_HEAD: usize = 8 * 1024;
/// Zeros in one member of a bomb.
const MEMBER: usize = 10 * MIB;

/// How often [`Key::post_steadily`] posts.
const EVERY: Duration = Duration::from_millis(20);

/// An API key.
pub struct Key {
    /// What to show.
    pub secret: String,
    /// Its table for the configuration.
    pub table: String,
}

impl Key {
    /// A key that may write into a namespace of its own name. Hashed here: `bench` has no binary to ask.
    pub fn new(name: &str) -> Self {
        let secret = format!("key-of-{name}");
        let hash: String = Sha256::digest(&secret).iter().map(|b| format!("{b:02x}")).collect();
        let table = format!(
            "[[keys]]\nname = \"{name}\"\nnamespace = \"{name}\"\nscopes = [\"write\"]\n\
             hash = \"sha256:{hash}\"\n"
        );
        Self { secret, table }
    }

    /// Posts one event every 20 ms, for so long, and insists that each is taken in less than
    /// `patience`. Answers how long each took, sorted.
    pub async fn post_steadily(
        &self,
        http: SocketAddr,
        name: &str,
        time: Duration,
        patience: Duration,
    ) -> Result<Vec<Duration>> {
        let client = reqwest::Client::builder().timeout(patience).build()?;
        let mut took = Vec::new();
        let begun = Instant::now();
        let mut next = begun;
        while begun.elapsed() < time {
            let body = crate::producer::ndjson(&[format!("{name}-{}", took.len())]);
            let post = client.post(format!("http://{http}/v1/events")).bearer_auth(&self.secret);
            let post = post.header("content-type", "application/x-ndjson").body(body);
            let sent = Instant::now();
            let answer = post.send().await.with_context(|| format!("event {}", took.len()))?;
            ensure!(answer.status() == 202, "event {} was answered {answer:?}", took.len());
            took.push(sent.elapsed());
            next += EVERY;
            sleep_until(next).await;
        }
        took.sort_unstable();
        Ok(took)
    }
}

/// The 99th percentile of a sorted list.
pub fn p99(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}

/// What it does.
#[derive(Clone, Copy, Debug)]
pub struct Mischief {
    /// Connections that send a byte a second: half of them of a head, half of a body.
    pub slow: usize,
    /// Requests of one event a second.
    pub flood: u32,
    /// Small bodies that unfold to 10 GB.
    pub bombs: usize,
    /// Bodies of 100 MB that unfold to 100 GB.
    pub bulky: usize,
}

/// Answers by what was asked and their status; 0 is a connection that ended without one.
pub type Answers = BTreeMap<(&'static str, u16), u64>;

/// The client.
#[derive(Clone)]
pub struct Neighbour {
    /// Whom it pesters.
    pub http: SocketAddr,
    /// Its key.
    pub key: String,
}

impl Neighbour {
    /// Does it all at once until it is told to stop, and tells what it was answered.
    pub async fn misbehave(&self, what: Mischief, stop: CancellationToken) -> Result<Answers> {
        let small = bomb(1000, 2)?;
        let member = bytes::Bytes::from(bomb(100, 1)?);
        let mut all = JoinSet::new();
        for number in 0..what.slow {
            let this = self.clone();
            let stop = stop.clone();
            all.spawn(async move {
                let kind = if number % 2 == 0 { "slow head" } else { "slow body" };
                (kind, vec![this.dawdle(number % 2 == 0, stop).await.unwrap_or(0)])
            });
        }
        for _ in 0..what.bulky {
            let (this, member, stop) = (self.clone(), member.clone(), stop.clone());
            all.spawn(async move {
                let status = stop.run_until_cancelled(this.bulky(member)).await;
                ("100 MB", status.map_or(vec![], |status| vec![status.unwrap_or(0)]))
            });
        }
        // Ten at a time, as long as there are any.
        let bombs = Arc::new(AtomicUsize::new(what.bombs));
        for _ in 0..10 {
            let (this, bombs, small) = (self.clone(), bombs.clone(), small.clone());
            all.spawn(async move {
                let mut statuses = Vec::new();
                let client = reqwest::Client::new();
                let one_less = |left: usize| left.checked_sub(1);
                while bombs.fetch_update(Relaxed, Relaxed, one_less).is_ok() {
                    statuses.push(this.bomb(&client, small.clone()).await);
                }
                ("bomb", statuses)
            });
        }
        const FLOODERS: u32 = 8;
        let pause = Duration::from_secs(FLOODERS.into()) / what.flood.max(1);
        for flooder in 0..FLOODERS {
            let (this, stop) = (self.clone(), stop.clone());
            all.spawn(async move { ("flood", this.flood(flooder, pause, stop).await) });
        }
        let mut answers = Answers::new();
        while let Some(done) = all.join_next().await {
            let (kind, statuses) = done?;
            for status in statuses {
                *answers.entry((kind, status)).or_default() += 1;
            }
        }
        Ok(answers)
    }

    /// What a bomb is answered that comes alone.
    pub async fn one_bomb(&self) -> Result<u16> {
        Ok(self.bomb(&reqwest::Client::new(), bomb(1000, 2)?).await)
    }

    fn head(&self, more: &str) -> String {
        let Self { http, key } = self;
        format!(
            "POST /v1/events HTTP/1.1\r\nhost: {http}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/x-ndjson\r\n{more}"
        )
    }

    /// Begins a head or a body, then sends a byte a second for as long as it is let.
    async fn dawdle(&self, head: bool, stop: CancellationToken) -> Result<u16> {
        let mut stream = TcpStream::connect(self.http).await?;
        let begun = match head {
            true => self.head("x-slow: ") + &"x".repeat(SLOW_HEAD),
            false => self.head("content-length: 1000000\r\n\r\n") + &" ".repeat(SLOW_BODY),
        };
        stream.write_all(begun.as_bytes()).await?;
        let (mut read, mut write) = stream.split();
        let dawdle = async {
            while write.write_all(b" ").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            status = status(&mut read) => status,
            () = dawdle => Ok(0),
            () = stop.cancelled() => Ok(0),
        }
    }

    /// 100 MB, in chunks: nobody is told beforehand.
    async fn bulky(&self, chunk: bytes::Bytes) -> Result<u16> {
        let mut stream = TcpStream::connect(self.http).await?;
        let head = self.head("transfer-encoding: chunked\r\ncontent-encoding: gzip\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let (mut read, mut write) = stream.split();
        let send = async {
            for _ in 0..(100 * MIB).div_ceil(chunk.len()) {
                write.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
                write.write_all(&chunk).await?;
                write.write_all(b"\r\n").await?;
            }
            write.write_all(b"0\r\n\r\n").await
        };
        let (_, status) = tokio::join!(send, status(&mut read));
        status
    }

    async fn bomb(&self, client: &reqwest::Client, body: Vec<u8>) -> u16 {
        let post = client.post(format!("http://{}/v1/events", self.http)).bearer_auth(&self.key);
        let post = post
            .header("content-type", "application/x-ndjson")
            .header("content-encoding", "gzip, gzip")
            .timeout(Duration::from_secs(60))
            .body(body);
        post.send().await.map_or(0, |answer| answer.status().as_u16())
    }

    async fn flood(&self, flooder: u32, pause: Duration, stop: CancellationToken) -> Vec<u16> {
        let client = reqwest::Client::new();
        let url = format!("http://{}/v1/events", self.http);
        let mut statuses = Vec::new();
        let mut next = Instant::now();
        while !stop.is_cancelled() {
            let body = crate::producer::ndjson(&[format!("flood{flooder}-{}", statuses.len())]);
            let post = client.post(&url).bearer_auth(&self.key);
            let post = post.header("content-type", "application/x-ndjson").body(body);
            let sent = post.timeout(Duration::from_secs(60)).send().await;
            statuses.push(sent.map_or(0, |answer| answer.status().as_u16()));
            next += pause;
            sleep_until(next).await;
        }
        statuses
    }
}

/// The status of an answer.
async fn status(from: &mut (impl AsyncReadExt + Unpin)) -> Result<u16> {
    let mut line = [0; 12];
    from.read_exact(&mut line).await?;
    let text = std::str::from_utf8(&line)?;
    Ok(text.rsplit(' ').next().context("no status")?.parse()?)
}

/// So many members of 10 MiB of zeros, compressed so many times.
fn bomb(members: usize, times: u32) -> Result<Vec<u8>> {
    let mut body = gzip(&vec![0; MEMBER])?.repeat(members);
    for _ in 1..times {
        body = gzip(&body)?;
    }
    Ok(body)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}
