//! The listener as clients meet it: raw sockets, so that every byte and every close is seen.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body, routing::get, routing::post};
use service::http::{HttpOptions, Routes, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Longer than it takes until a connection counts as one at rest.
const LONG: Duration = Duration::from_millis(2200);
/// More than the kernel buffers.
const LARGE: usize = 32 * 1024 * 1024;

struct Server {
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(options: HttpOptions) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let router = Router::new()
        .route("/fast", get(|| async { "fast" }))
        .route(
            "/slow",
            get(|| async {
                sleep(Duration::from_millis(300)).await;
                "slow"
            }),
        )
        .route("/slower", get(|| async { sleep(LONG).await }))
        .route(
            "/drip",
            get(|| async {
                let drops = futures_util::stream::unfold(0, |dropped| async move {
                    sleep(LONG).await;
                    (dropped < 2).then(|| (Ok::<_, Infallible>("drop"), dropped + 1))
                });
                Body::from_stream(drops)
            }),
        )
        .route("/large", get(|| async { "x".repeat(LARGE) }))
        .route("/never", get(|| async { std::future::pending::<&str>().await }))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("on purpose")
                }
                ""
            }),
        )
        .route("/take", post(|body: String| async move { body.len().to_string() }));
    let task = tokio::spawn(serve(listener, router, options, shutdown.clone()));
    Server { addr, shutdown, task }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(&mut stream).await.expect("an answer")
    }

    async fn stops_within(self, limit: Duration) {
        self.shutdown.cancel();
        timeout(limit, self.task).await.expect("stops in time").unwrap();
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_without_being_told_to_send() {
    let server = start(HttpOptions::default()).await;
    for host in ["localhost", "example.com"] {
        let head = format!(
            "POST /nowhere HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        );
        let refused = server.ask(&head).await;
        assert!(refused.starts_with("HTTP/1.1 40"), "{refused}");
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Reads one whole answer; `None` when the connection ends before it does.
async fn answer(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |l| l.parse().unwrap()) {
                return Some(text);
            }
        }
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => text.push_str(std::str::from_utf8(&chunk[..n]).unwrap()),
            _ => return None,
        }
    }
}

#[tokio::test]
async fn an_answer_names_its_request() {
    let server = start(HttpOptions::default()).await;
    let asked = "GET /fast HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine-1\r\n\r\n";
    assert!(server.ask(asked).await.contains("x-request-id: mine-1\r\n"));
    assert!(server.ask(&request("/fast")).await.contains("x-request-id: "));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let server = start(HttpOptions::default()).await;
    let missing = server.ask(&request("/nowhere")).await;
    assert!(missing.starts_with("HTTP/1.1 404 ") && missing.contains("\"code\":\"not_found\""));
    let method = server.ask(&request("/take")).await;
    assert!(method.starts_with("HTTP/1.1 405 "), "{method}");
    assert!(method.contains("application/problem+json") && method.contains("allow: POST"));
}

#[tokio::test]
async fn until_its_routes_are_there_a_listener_asks_to_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (routes, shutdown) = (Routes::default(), CancellationToken::new());
    let serving = serve(listener, routes.clone(), HttpOptions::default(), shutdown.clone());
    let server = Server { addr, task: tokio::spawn(serving), shutdown };
    let mut stream = server.connect().await;
    stream.write_all(request("/fast").as_bytes()).await.unwrap();
    let early = answer(&mut stream).await.unwrap();
    assert!(early.starts_with("HTTP/1.1 503 ") && early.contains("retry-after: 1"), "{early}");
    assert!(early.contains("\"code\":\"starting\""), "{early}");

    routes.set(Router::new().route("/fast", get(|| async { "fast" })));
    stream.write_all(request("/fast").as_bytes()).await.unwrap();
    let later = answer(&mut stream).await.unwrap();
    assert!(later.starts_with("HTTP/1.1 200 "), "the same connection goes on: {later}");
    server.stops_within(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_foreign_host_is_refused_where_hosts_are_checked() {
    let foreign = "GET /fast HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let checked = start(HttpOptions { check_host: true, ..HttpOptions::default() }).await;
    let answer = checked.ask(foreign).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("host_not_allowed"));
    let open = start(HttpOptions { check_host: false, ..HttpOptions::default() }).await;
    assert!(open.ask(foreign).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = start(HttpOptions { check_host: true, ..HttpOptions::default() }).await;
    for (path, host, status) in [("/take", "example.com", "403"), ("/nowhere", "localhost", "404")]
    {
        let mut stream = server.connect().await;
        let body = "x".repeat(8_000_000);
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.unwrap().starts_with(&format!("HTTP/1.1 {status} ")));
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_connection_goes_on() {
    let server = start(HttpOptions::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(request("/panic").as_bytes()).await.unwrap();
    let failed = answer(&mut stream).await.unwrap();
    assert!(failed.starts_with("HTTP/1.1 500 ") && failed.contains("\"code\":\"internal\""));
    assert!(!failed.contains("on purpose"));
    stream.write_all(request("/fast").as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.unwrap().ends_with("fast"));
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_dropped() {
    let header_timeout = Duration::from_millis(100);
    let server = start(HttpOptions { header_timeout, ..HttpOptions::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /fast HT").await.unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_dropped() {
    let header_timeout = Duration::from_millis(100);
    let server = start(HttpOptions { header_timeout, ..HttpOptions::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(request("/large").as_bytes()).await.unwrap();
    sleep(header_timeout * 12).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() || answer.len() < LARGE, "{} bytes", answer.len());
    server.stops_within(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_dropped() {
    let header_timeout = Duration::from_millis(500);
    let server = start(HttpOptions { header_timeout, ..HttpOptions::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(request("/large").as_bytes()).await.unwrap();
    let mut piece = vec![0; LARGE / 16];
    for _ in 0..16 {
        stream.read_exact(&mut piece).await.unwrap();
        sleep(header_timeout / 5).await;
    }
    server.stops_within(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_head_over_its_limit_is_431() {
    let server = start(HttpOptions { max_header_bytes: 2000, ..HttpOptions::default() }).await;
    let with = |bytes: usize| {
        format!("GET /fast HTTP/1.1\r\nHost: localhost\r\nX-Large: {}\r\n\r\n", "x".repeat(bytes))
    };
    assert!(server.ask(&with(1500)).await.starts_with("HTTP/1.1 200 "));
    assert!(server.ask(&with(3000)).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_the_others_are_served() {
    let server = start(HttpOptions { max_connections: 1, ..HttpOptions::default() }).await;
    let mut first = server.connect().await;
    first.write_all(request("/fast").as_bytes()).await.unwrap();
    answer(&mut first).await.unwrap();
    let shed = server.ask(&request("/fast")).await;
    assert!(shed.starts_with("HTTP/1.1 503 ") && shed.contains("retry-after: 1\r\n"), "{shed}");
    let id = shed.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert!(shed.contains(&format!("\"request_id\":\"{id}\"")), "{shed}");
    first.write_all(request("/fast").as_bytes()).await.unwrap();
    assert!(answer(&mut first).await.unwrap().ends_with("fast"));
    drop(first);
    sleep(Duration::from_millis(50)).await;
    assert!(server.ask(&request("/fast")).await.ends_with("fast"));
}

#[tokio::test]
async fn a_request_under_way_at_shutdown_is_answered() {
    let server = start(HttpOptions::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(request("/slow").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.stops_within(Duration::from_secs(5)).await;
    let last = answer(&mut stream).await.unwrap();
    assert!(last.ends_with("slow") && last.contains("connection: close"), "{last}");
}

#[tokio::test]
async fn a_request_on_an_idle_connection_just_after_shutdown_is_answered() {
    let server = start(HttpOptions::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(request("/fast").as_bytes()).await.unwrap();
    answer(&mut stream).await.unwrap();
    server.shutdown.cancel();
    sleep(Duration::from_millis(200)).await;
    stream.write_all(request("/fast").as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.unwrap().contains("connection: close"));
    assert!(TcpStream::connect(server.addr).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_shutdown() {
    let grace = Duration::from_millis(100);
    let server = start(HttpOptions { grace, ..HttpOptions::default() }).await;
    let mut idle = server.connect().await;
    idle.write_all(request("/fast").as_bytes()).await.unwrap();
    answer(&mut idle).await.unwrap();
    server.stops_within(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_at_the_drain_deadline() {
    let drain = Duration::from_millis(200);
    let server = start(HttpOptions { drain, ..HttpOptions::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(request("/never").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.stops_within(Duration::from_secs(5)).await;
}

/// Clients of every temper hammer the server while it is told to stop. Whoever got a connection
/// and wrote a request on it must get the whole answer; later ones find nobody listening.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_is_cut_off_by_a_shutdown_under_load() {
    for round in 0..5 {
        let server = start(HttpOptions::default()).await;
        let (answered, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let client = |number: u64| {
            let (answered, cut, addr) = (answered.clone(), cut.clone(), server.addr);
            async move {
                let think = Duration::from_millis([0, 0, 3, 40][(number % 4) as usize]);
                let give_up = Instant::now() + Duration::from_secs(20);
                while Instant::now() < give_up {
                    let Ok(mut stream) = TcpStream::connect(addr).await else { return };
                    loop {
                        let body = "x".repeat(20_000);
                        let head =
                            "POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000";
                        let request = format!("{head}\r\n\r\n{body}");
                        let sent = stream.write_all(request.as_bytes()).await;
                        let (Ok(()), Some(answer)) = (sent, answer(&mut stream).await) else {
                            cut.fetch_add(1, Ordering::Relaxed);
                            break;
                        };
                        assert!(answer.ends_with("20000"));
                        answered.fetch_add(1, Ordering::Relaxed);
                        if answer.contains("connection: close") {
                            break;
                        }
                        sleep(think).await;
                    }
                }
                panic!("the server never stopped");
            }
        };
        let clients: Vec<_> = (0..64).map(|n| tokio::spawn(client(n))).collect();
        sleep(Duration::from_millis(100 + 13 * round)).await;
        server.stops_within(Duration::from_secs(10)).await;
        for client in clients {
            client.await.unwrap();
        }
        assert!(answered.load(Ordering::Relaxed) > 100);
        assert_eq!(cut.load(Ordering::Relaxed), 0, "requests cut off in round {round}");
    }
}

#[tokio::test]
async fn a_connection_at_rest_goes_on_where_it_was() {
    let server = start(HttpOptions::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        let (begin, end) = ("GET /fa", "st HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(begin.as_bytes()).await.unwrap();
        sleep(LONG).await;
        // With the beginning of the next, which stays unread.
        stream.write_all(format!("{end}{begin}").as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.unwrap().ends_with("fast"));
        sleep(LONG).await;
        stream.write_all(end.as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.unwrap().ends_with("fast"));
        sleep(LONG).await;
    }
    drop(stream);
    server.stops_within(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn whatever_takes_long_on_a_connection_is_not_taken_for_rest() {
    let server = start(HttpOptions::default()).await;
    let slow = async {
        let mut stream = server.connect().await;
        let both = format!("{}{}", request("/fast"), request("/slower"));
        stream.write_all(both.as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.unwrap().ends_with("fast"));
        assert!(answer(&mut stream).await.unwrap().starts_with("HTTP/1.1 200 "));
    };
    let all = async |path: &str| {
        let asked = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut stream = server.connect().await;
        stream.write_all(asked.as_bytes()).await.unwrap();
        sleep(LONG).await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let (.., drip, large) = tokio::join!(slow, all("/drip"), all("/large"));
    assert!(drip.ends_with("4\r\ndrop\r\n4\r\ndrop\r\n0\r\n\r\n"), "{drip}");
    assert!(large.len() > LARGE);
}
