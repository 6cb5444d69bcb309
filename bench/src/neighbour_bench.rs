//! `bench neighbour`: how long a key waits for its 202 alone, and while another key floods, dawdles and
//! bombs; both in each round, in one process on the embedded log and store.

use std::{
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    process::{ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use e2e::neighbour::{Key, Mischief, Neighbour};
use service::lifecycle;
use tokio_util::sync::CancellationToken;

use crate::{load, measure::mib, process::Process, server::Server};

#[derive(ClapArgs)]
pub struct Args {
    /// Seconds alone, and as many beside the neighbour, in each round.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[command(flatten)]
    mischief: MischiefArgs,
}

#[derive(ClapArgs)]
struct MischiefArgs {
    /// Connections that send a byte a second.
    #[arg(long, default_value_t = 2000)]
    slow: usize,
    /// Events a second that the neighbour may post; it posts ten times as many.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Bodies of some kilobytes that unfold to 10 GB.
    #[arg(long, default_value_t = 100)]
    bombs: usize,
    /// Bodies of 100 MB that unfold to 100 GB.
    #[arg(long, default_value_t = 100)]
    bulky: usize,
}

/// What the process of the neighbour is told.
#[derive(ClapArgs)]
pub struct Load {
    http: SocketAddr,
    #[command(flatten)]
    mischief: MischiefArgs,
}

/// What a request of the good key may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(args: &Args) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (good, bad) = (Key::new("good"), Key::new(BAD));
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nurl = \"file:./log\"\n[store]\nurl = \"file:./store\"\n{}{}rate = {{ events = {} }}\n",
        good.table, bad.table, args.mischief.rate
    );
    let path = dir.path().join("penstock.toml");
    std::fs::write(&path, config)?;
    let server = Server::start("serve-pipeline", Some(path.as_os_str())).await?;
    let MischiefArgs { slow, rate, bombs, bulky } = args.mischief;
    println!(
        "neighbour: one event every 20 ms, alone and beside {slow} slow connections, {} requests/s where \
         {rate} are let, {bombs} bombs, {bulky} bodies of 100 MB; all on {} cores, the neighbour's \
         clients with what the others leave of them",
        rate * 10,
        std::thread::available_parallelism()?
    );
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let time = Duration::from_secs(args.seconds);
    for round in 0..args.rounds {
        alone.extend(good.post_steadily(server.http, &format!("a{round}"), time, PATIENCE).await?);
        let neighbour = Clients::start(server.http, &args.mischief)?;
        beside.extend(good.post_steadily(server.http, &format!("b{round}"), time, PATIENCE).await?);
        println!("  round {round}: {}", neighbour.stop().await?);
    }
    alone.sort_unstable();
    beside.sort_unstable();
    load::print_quantiles("alone", &alone);
    load::print_quantiles("beside", &beside);
    let times =
        |q| load::quantile(&beside, q).as_secs_f64() / load::quantile(&alone, q).as_secs_f64();
    println!(
        "  beside / alone, p50 / p99 (target: p99 at most 2): {:.2} / {:.2}",
        times(0.5),
        times(0.99)
    );
    println!("  server: {} MiB at most (target: below 400)", mib(server.memory()?.peak));
    server.stop().await
}

/// The bad neighbour's key.
const BAD: &str = "bad";
/// What its process says when it begins.
const BEGUN: &str = "begun";

/// The neighbour's clients: a process of its own that runs when nobody else would. Elsewhere they would have
/// their own machines; here they would take the cores from the server and from the good key's client,
/// for milliseconds even with the lowest of the usual priorities.
struct Clients {
    process: Process,
    said: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    fn start(http: SocketAddr, mischief: &MischiefArgs) -> Result<Self> {
        let MischiefArgs { slow, rate, bombs, bulky } = mischief;
        let numbers = [
            ("--slow", *slow),
            ("--rate", usize::try_from(*rate)?),
            ("--bombs", *bombs),
            ("--bulky", *bulky),
        ];
        let mut child = Command::new("chrt") // of util-linux
            .args(["--idle", "0"])
            .arg(std::env::current_exe()?)
            .args(["misbehave", &http.to_string()])
            .args(numbers.iter().map(|(name, number)| format!("{name}={number}")))
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let process = Process::new(child);
        let mut said = BufReader::new(stdout).lines();
        said.next().context("the neighbour ended")??;
        Ok(Self { process, said })
    }

    /// Ends it; what it was answered.
    async fn stop(mut self) -> Result<String> {
        self.process.stop().await?;
        Ok(self.said.next().context("the neighbour said nothing")??)
    }
}

/// The process of the neighbour, until it is told to stop.
pub async fn misbehave(load: &Load) -> Result<()> {
    let MischiefArgs { slow, rate, bombs, bulky } = load.mischief;
    let neighbour = Neighbour { http: load.http, key: Key::new(BAD).secret };
    let stop = CancellationToken::new();
    lifecycle::on_signal(stop.clone());
    println!("{BEGUN}");
    let mischief = Mischief { slow, flood: rate * 10, bombs, bulky };
    println!("{:?}", neighbour.misbehave(mischief, stop).await?);
    Ok(())
}
