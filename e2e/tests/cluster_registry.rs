//! The schema registry of two ingests on one real Kafka: what they agree on, when one knows what the
//! other was told, and what they say while the broker is away.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use e2e::{
    backends::Kafka,
    cluster::{self, Cluster, Replicas, Role},
    conformance::{or_skip, python, run, scripts},
    reader::Pipeline,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::{sync::MutexGuard, task::JoinSet};

const MINUTE: Duration = Duration::from_secs(60);
/// How long the registry may take to say that it cannot answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two ingests on a broker of their own, which refuse types without schema; it is this test's turn for
/// as long as it holds them. Nobody asks for a store. None where clusters cannot run.
async fn start() -> Option<(MutexGuard<'static, ()>, Kafka, Cluster)> {
    if !cluster::possible_without_store() {
        return None;
    }
    let turn = cluster::turn().await;
    let kafka = Kafka::start(1).unwrap();
    let replicas = Replicas { ingest: 2, processors: 0, sinks: 0, query: 0, named: false };
    let more = "[schemas]\nunknown = \"reject\"";
    let cluster = Cluster::start(&kafka.servers, "127.0.0.1:9042", replicas, more).await.unwrap();
    Some((turn, kafka, cluster))
}

/// Where the ingests answer.
fn bases(cluster: &Cluster) -> Vec<String> {
    let address = |name: &String| format!("http://{}", cluster.http(name).unwrap());
    cluster.of(Role::Ingest).iter().map(address).collect()
}

/// Status and body of a request to the registry.
async fn call(base: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = Client::new().request(method, format!("{base}/registry{path}"));
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    assert!(status != 503 || answer.headers().contains_key("retry-after"), "{path}");
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn get(base: &str, path: &str) -> (u16, Value) {
    call(base, Method::GET, path, None).await
}

async fn register(base: &str, subject: &str, schema: &str) -> (u16, Value) {
    let path = format!("/subjects/{subject}/versions");
    call(base, Method::POST, &path, Some(json!({ "schema": schema }))).await
}

/// The id and version of a registration that has to succeed.
async fn registered(base: &str, subject: &str, schema: &str) -> (u64, u64) {
    let (status, body) = register(base, subject, schema).await;
    assert_eq!(status, 200, "{subject}: {body}");
    (body["id"].as_u64().unwrap(), body["version"].as_u64().unwrap())
}

async fn post(base: &str, kind: &str, data: &Value) -> (u16, String) {
    let event =
        json!({ "specversion": "1.0", "id": "1", "source": "/t", "type": kind, "data": data });
    let request = Client::new()
        .post(format!("{base}/v1/events"))
        .header("content-type", "application/cloudevents+json")
        .body(event.to_string());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A record with these fields, all of which have a default.
fn record(fields: &[&str]) -> String {
    let field = |name: &&str| json!({ "name": name, "type": "long", "default": 0 });
    let fields: Vec<_> = fields.iter().map(field).collect();
    json!({ "type": "record", "name": "R", "fields": fields }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_register_at_once_give_each_schema_one_id_for_ever() {
    let Some((_turn, _kafka, cluster)) = start().await else { return };
    // The same schema under many types, one more for each type, and a type of which each replica
    // registers versions of its own: all at once, by both.
    let mut work = JoinSet::new();
    for (replica, base) in bases(&cluster).into_iter().enumerate() {
        for n in 0..8 {
            let base = base.clone();
            work.spawn(async move {
                let (own, mine) = (record(&["a", &format!("n{n}")]), format!("r{replica}n{n}"));
                let plan = [
                    (format!("type{n}"), record(&["a"])),
                    (format!("type{n}"), own),
                    ("contested".to_owned(), record(&["a", &mine])),
                ];
                let mut done = Vec::new();
                for (subject, schema) in plan {
                    let (id, version) = registered(&base, &subject, &schema).await;
                    done.push((subject, schema, id, version));
                }
                done
            });
        }
    }
    let done: Vec<_> = work.join_all().await.into_iter().flatten().collect();
    let mut ids = BTreeMap::<&str, BTreeSet<u64>>::new();
    let mut versions = BTreeMap::<(&str, u64), BTreeSet<&str>>::new();
    for (subject, schema, id, version) in &done {
        ids.entry(schema).or_default().insert(*id);
        versions.entry((subject, *version)).or_default().insert(schema);
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    let distinct: BTreeSet<u64> = ids.values().flatten().copied().collect();
    assert_eq!((ids.len(), distinct.len()), (1 + 8 + 16, 1 + 8 + 16));
    assert!(versions.values().all(|schemas| schemas.len() == 1), "{versions:?}");
    let numbers = json!((1..=16).collect::<Vec<_>>());

    let agree = async |cluster: &Cluster| {
        for base in bases(cluster) {
            assert_eq!(get(&base, "/subjects/contested/versions").await, (200, numbers.clone()));
            for (schema, ids) in &ids {
                let (status, found) =
                    get(&base, &format!("/schemas/ids/{}", ids.first().unwrap())).await;
                assert_eq!((status, found["schema"].as_str()), (200, Some(*schema)));
            }
        }
    };
    agree(&cluster).await;
    cluster.kill("ingest-1").unwrap();
    cluster.stop("ingest-2").await.unwrap();
    for name in ["ingest-1", "ingest-2"] {
        cluster.start_again(name).unwrap();
        cluster.ready(name, MINUTE).await.unwrap();
    }
    agree(&cluster).await;
    let [first, second] = &bases(&cluster)[..] else { panic!("not two") };
    for (subject, schema, id, version) in &done {
        assert_eq!(registered(second, subject, schema).await, (*id, *version));
    }
    let (newest, _) = registered(first, "late", &record(&["late"])).await;
    assert!(newest > *distinct.last().unwrap(), "{newest} was used before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_knows_what_the_other_was_told_before_it_needs_it() {
    let Some((_turn, _kafka, cluster)) = start().await else { return };
    let bases = bases(&cluster);
    for n in 0..20 {
        let (told, asked) = (&bases[n % 2], &bases[(n + 1) % 2]);
        let kind = format!("type{n}");
        registered(told, &kind, &record(&["a"])).await;
        let (status, said) = post(asked, &kind, &json!({ "a": 1 })).await;
        assert_eq!(status, 202, "a type that is new: {said}");
        registered(told, &kind, &record(&["a", &format!("b{n}")])).await;
        let data = json!({ "a": 1, format!("b{n}"): 2 });
        let (status, said) = post(asked, &kind, &data).await;
        assert_eq!(status, 202, "a field that is new: {said}");
        let (latest, _) = registered(told, &format!("other{n}"), &record(&[&kind])).await;
        assert_eq!(get(asked, &format!("/schemas/ids/{latest}")).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_broker_the_registry_says_so_in_time_and_nothing_is_half_registered() {
    let Some((_turn, kafka, cluster)) = start().await else { return };
    let bases = bases(&cluster);
    let (known, _) = registered(&bases[0], "known", &record(&["a"])).await;
    assert_eq!(get(&bases[1], &format!("/schemas/ids/{known}")).await.0, 200);
    // Both register without a pause, each until it is told that it cannot be.
    let mut work = JoinSet::new();
    for (replica, base) in bases.clone().into_iter().enumerate() {
        work.spawn(async move {
            let mut tried = Vec::new();
            loop {
                let name = format!("r{replica}n{}", tried.len());
                let schema = record(&[&name]);
                let (status, body) = register(&base, &name, &schema).await;
                tried.push((name, schema, body.clone()));
                if status != 200 {
                    return (tried, status, body);
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    kafka.kill_all().unwrap();

    let begun = Instant::now();
    let data = json!({ "a": 1 });
    let (registering, listing, unknown, event) = tokio::join!(
        work.join_all(),
        get(&bases[1], "/subjects"),
        post(&bases[1], "never", &data),
        post(&bases[1], "known", &data),
    );
    let took = begun.elapsed();
    let counts: Vec<_> = registering.iter().map(|(tried, ..)| tried.len()).collect();
    eprintln!("after {counts:?} registrations all were told within {took:?}");
    assert!(took < PATIENCE, "{took:?}");
    for (status, body) in
        registering.iter().map(|(_, s, b)| (*s, b)).chain([(listing.0, &listing.1)])
    {
        assert_eq!(status, 503, "{body}");
        assert!([50001, 50002].map(Some).contains(&body["error_code"].as_u64()), "{body}");
    }
    assert_eq!(unknown.0, 503, "nobody knows whether the type has a schema: {}", unknown.1);
    assert_eq!(event.0, 503, "{}", event.1);
    for base in &bases {
        let (status, found) = get(base, &format!("/schemas/ids/{known}")).await;
        assert_eq!(status, 200, "decoders go on: {found}");
    }

    kafka.start_all().unwrap();
    for name in cluster.names() {
        cluster.ready(&name, MINUTE).await.unwrap();
    }
    for base in &bases {
        let begun = Instant::now();
        while register(base, "known", &record(&["a"])).await.0 == 503 {
            assert!(begun.elapsed() < MINUTE, "it still cannot register");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    // What was told stands; what was not is there as a whole or not at all, so that it can be now.
    let mut ids = BTreeSet::from([known]);
    for (name, schema, body) in registering.iter().flat_map(|(tried, ..)| tried) {
        let again = registered(&bases[0], name, schema).await;
        assert_eq!(registered(&bases[1], name, schema).await, again);
        assert_eq!(again.1, 1, "{name}");
        assert!(body["id"].as_u64().is_none_or(|told| told == again.0), "{name}: {body} {again:?}");
        assert!(ids.insert(again.0), "{name}: the id {} is another schema's", again.0);
    }
    assert_eq!(cluster.exits().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_confluent_reads_what_ingest_wrote_to_kafka_also_after_an_evolution() {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let programs = python(kept, "conformance-python-kafka", "requirements.txt");
    let Some(programs) = or_skip(programs) else { return };
    let Some((_turn, kafka, cluster)) = start().await else { return };
    let mut python = Command::new(programs.join("python"));
    python
        .arg(scripts().join("registry.py"))
        .arg(cluster.url(""))
        .arg("--kafka")
        .arg(&kafka.servers);
    println!("{}", tokio::task::block_in_place(|| run(&mut python)).unwrap());
}
