//! The listener as clients meet it over HTTP/2 without TLS (prior knowledge).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get, routing::post};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use service::http::{HttpOptions, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(5);

struct Server {
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    /// Requests that `/take` was asked.
    taken: Arc<AtomicUsize>,
}

async fn start(options: HttpOptions) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let router = Router::new()
        .route("/fast", get(|| async { "fast" }))
        .route(
            "/slow",
            get(|| async {
                sleep(Duration::from_millis(300)).await;
                "slow"
            }),
        )
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
        .route(
            "/take",
            post(move |body: String| async move {
                count.fetch_add(1, Ordering::Relaxed);
                body.len().to_string()
            }),
        );
    let task = tokio::spawn(serve(listener, router, options, shutdown.clone()));
    Server { addr, shutdown, task, taken }
}

impl Server {
    async fn stops_within(self, limit: Duration) {
        self.shutdown.cancel();
        timeout(limit, self.task).await.expect("stops in time").unwrap();
    }
}

struct Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

type Answer = Result<(Response<()>, String), h2::Error>;

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).await.expect("a connection")
    }

    async fn try_connect(addr: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(addr).await.ok()?;
        let (sender, connection) = h2::client::handshake(stream).await.ok()?;
        Some(Self { sender, connection: tokio::spawn(connection) })
    }

    /// Sends a request; its answer comes later. An error means that it was not sent.
    async fn send(
        &self,
        request: Request<()>,
        body: Option<Bytes>,
    ) -> Result<impl Future<Output = Answer> + Send + 'static, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(body, true)?;
        }
        Ok(async move {
            let (head, mut body) = response.await?.into_parts();
            let mut text = Vec::new();
            while let Some(chunk) = body.data().await {
                let chunk = chunk?;
                body.flow_control().release_capacity(chunk.len())?;
                text.extend_from_slice(&chunk);
            }
            Ok((Response::from_parts(head, ()), String::from_utf8(text).unwrap()))
        })
    }

    async fn ask(&self, path: &str) -> (Response<()>, String) {
        let answer = self.send(request("GET", path), None).await.unwrap();
        timeout(SOON, answer).await.expect("an answer in time").unwrap()
    }
}

/// Whether the server said that it never took the request in.
fn untaken(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://localhost{path}")).body(()).unwrap()
}

#[tokio::test]
async fn a_client_with_prior_knowledge_is_answered_without_headers_of_http_1() {
    let server = start(HttpOptions::default()).await;
    let client = Client::connect(server.addr).await;
    let (head, body) = client.ask("/fast").await;
    assert_eq!((head.status().as_u16(), &*body), (200, "fast"));
    assert!(head.headers().contains_key("x-request-id"));
    assert!(!head.headers().contains_key("connection"));
    let taken = client.send(request("POST", "/take"), Some("x".repeat(1_000_000).into())).await;
    assert_eq!(timeout(SOON, taken.unwrap()).await.unwrap().unwrap().1, "1000000");
}

#[tokio::test]
async fn both_protocols_are_told_apart_by_their_first_bytes_however_they_arrive() {
    let server = start(HttpOptions::default()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    for byte in b"PRI / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "a method of HTTP/1.1: {answer}");
}

#[tokio::test]
async fn a_foreign_authority_is_refused_where_hosts_are_checked() {
    let server = start(HttpOptions::default()).await;
    let client = Client::connect(server.addr).await;
    let foreign = Request::builder().uri("http://example.com/fast").body(()).unwrap();
    let answer = client.send(foreign, None).await.unwrap().await.unwrap();
    assert_eq!(answer.0.status().as_u16(), 403);
}

#[tokio::test]
async fn a_panic_is_a_500_and_harms_no_other_request_of_the_connection() {
    let server = start(HttpOptions::default()).await;
    let client = Client::connect(server.addr).await;
    let slow = client.send(request("GET", "/slow"), None).await.unwrap();
    let (head, body) = client.ask("/panic").await;
    assert_eq!(head.status().as_u16(), 500);
    assert!(body.contains("\"code\":\"internal\"") && !body.contains("on purpose"), "{body}");
    assert_eq!(slow.await.unwrap().1, "slow");
    assert_eq!(client.ask("/fast").await.1, "fast");
}

#[tokio::test]
async fn a_head_over_its_limit_is_431_and_the_connection_goes_on() {
    let server = start(HttpOptions { max_header_bytes: 2000, ..HttpOptions::default() }).await;
    let client = Client::connect(server.addr).await;
    let mut large = request("GET", "/fast");
    large.headers_mut().insert("x-large", "x".repeat(3000).parse().unwrap());
    let answer = timeout(SOON, client.send(large, None).await.unwrap()).await.unwrap();
    assert_eq!(answer.unwrap().0.status().as_u16(), 431);
    assert_eq!(client.ask("/fast").await.1, "fast");
}

#[tokio::test]
async fn one_request_too_many_at_once_is_told_so_and_the_others_are_served() {
    let server = start(HttpOptions { max_connections: 1, ..HttpOptions::default() }).await;
    let client = Client::connect(server.addr).await;
    let slow = client.send(request("GET", "/slow"), None).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let (head, body) = client.ask("/fast").await;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert!(body.contains("too_many_requests_at_once"), "{body}");
    assert_eq!(slow.await.unwrap().1, "slow");
    assert_eq!(client.ask("/fast").await.1, "fast");
}

#[tokio::test]
async fn a_connection_without_requests_is_asked_to_go_and_one_with_a_request_is_not() {
    let header_timeout = Duration::from_millis(100);
    let server = start(HttpOptions { header_timeout, ..HttpOptions::default() }).await;
    let idle = Client::connect(server.addr).await;
    assert_eq!(idle.ask("/fast").await.1, "fast");
    let busy = Client::connect(server.addr).await;
    let slow = busy.send(request("GET", "/slow"), None).await.unwrap();
    timeout(SOON, idle.connection).await.expect("closed in time").unwrap().unwrap();
    assert_eq!(slow.await.unwrap().1, "slow");
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_preface_is_dropped() {
    let header_timeout = Duration::from_millis(100);
    let server = start(HttpOptions { header_timeout, ..HttpOptions::default() }).await;
    for begun in [&b""[..], b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        timeout(SOON, stream.read_to_end(&mut rest)).await.expect("dropped in time").unwrap();
    }
}

#[tokio::test]
async fn requests_under_way_at_shutdown_are_answered_and_idle_connections_do_not_hold_it_up() {
    let server = start(HttpOptions::default()).await;
    let (busy, idle) = (Client::connect(server.addr).await, Client::connect(server.addr).await);
    assert_eq!(idle.ask("/fast").await.1, "fast");
    let slow = busy.send(request("GET", "/slow"), None).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.stops_within(Duration::from_secs(2)).await;
    assert_eq!(slow.await.unwrap().1, "slow");
    idle.connection.await.unwrap().expect("closed in good order");
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_at_the_drain_deadline() {
    let drain = Duration::from_millis(200);
    let server = start(HttpOptions { drain, ..HttpOptions::default() }).await;
    let client = Client::connect(server.addr).await;
    let _never = client.send(request("GET", "/never"), None).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.stops_within(SOON).await;
}

/// Clients keep several requests under way on each connection while the server is told to stop.
/// Whatever was sent must be answered. The one exception is HTTP/2's own: a request that its client
/// sent after it had answered the first GOAWAY may be above the number of the last one that was
/// taken, which the second GOAWAY tells (RFC 9113, 6.8); nobody looked at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_is_cut_off_by_a_shutdown_under_load() {
    for round in 0..5 {
        let server = start(HttpOptions::default()).await;
        let taken = server.taken.clone();
        let (answered, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |number: u64| {
            let (answered, cut, addr) = (answered.clone(), cut.clone(), server.addr);
            async move {
                let think = Duration::from_millis([0, 0, 3, 40][(number % 4) as usize]);
                let body = Bytes::from("x".repeat(20_000));
                while let Some(client) = Client::try_connect(addr).await {
                    loop {
                        let mut answers = Vec::new();
                        for _ in 0..4 {
                            let sent = client.send(request("POST", "/take"), Some(body.clone()));
                            let Ok(answer) = sent.await else { break };
                            answers.push(answer);
                        }
                        let done = answers.len() < 4;
                        for answer in answers {
                            match answer.await {
                                Ok((_, body)) if body == "20000" => &answered,
                                Err(error) if untaken(&error) => continue,
                                _ => &cut,
                            }
                            .fetch_add(1, Ordering::Relaxed);
                        }
                        if done {
                            break;
                        }
                        sleep(think).await;
                    }
                }
            }
        };
        let clients: Vec<_> = (0..32).map(|n| tokio::spawn(work(n))).collect();
        sleep(Duration::from_millis(100 + 13 * round)).await;
        server.stops_within(Duration::from_secs(10)).await;
        for client in clients {
            timeout(SOON, client).await.expect("clients find nobody").unwrap();
        }
        assert!(answered.load(Ordering::Relaxed) > 100);
        assert_eq!(answered.load(Ordering::Relaxed), taken.load(Ordering::Relaxed));
        assert_eq!(cut.load(Ordering::Relaxed), 0, "requests cut off in round {round}");
    }
}
