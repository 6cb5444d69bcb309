//! Configurations as people write them, and what they are told.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use service::config::{ConfigError, Loaded, UnknownType, load, load_keys};
use tempfile::TempDir;

fn load_with(text: &str, env: &[(&str, &str)]) -> (TempDir, Result<Loaded, ConfigError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("penstock.toml");
    std::fs::write(&path, text).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let loaded = load(Some(&path), env);
    (dir, loaded)
}

fn good(text: &str, env: &[(&str, &str)]) -> Loaded {
    load_with(text, env).1.unwrap()
}

/// The mistakes, one a line, paths without their directory.
fn mistakes(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let (dir, loaded) = load_with(text, env);
    let prefix = format!("{}/", dir.path().display());
    let mistakes = loaded.map(|_| ()).unwrap_err().mistakes;
    mistakes.iter().map(|m| m.to_string().replace(&prefix, "")).collect()
}

#[test]
fn an_empty_file_is_a_configuration() {
    let config = good("", &[]).config;
    assert_eq!(config.http.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.topics.retention, Duration::from_secs(7 * 86_400));
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let (dir, loaded) = load_with("[log]\nurl = 'file:./a/log'\n[store]\nurl = 'file:/b'", &[]);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.config.log.url, format!("file:{}/a/log", dir.path().display()));
    assert_eq!(loaded.config.store.url, "file:/b");
    assert_eq!(loaded.base_dir, dir.path());
}

#[test]
fn without_a_file_paths_are_relative_to_the_current_directory() {
    let here = std::env::current_dir().unwrap();
    let loaded = load(None, std::iter::empty()).unwrap();
    assert_eq!(loaded.config.log.url, format!("file:{}/penstock-data/log", here.display()));
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Some("/nowhere/penstock.toml".as_ref()), std::iter::empty()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/penstock.toml"), "{error}");
}

#[test]
fn the_environment_overrides_the_file_with_every_type() {
    let env = [
        ("PENSTOCK__HTTP__LISTEN", "127.0.0.1:1"),
        ("PENSTOCK__TOPICS__PARTITIONS", "9"),
        ("PENSTOCK__TOPICS__RETENTION", "3d"),
        ("PENSTOCK__SCHEMAS__UNKNOWN", "reject"),
        ("PENSTOCK__LOG__URL", "file:/elsewhere"),
        ("PENSTOCK__ROLLUPS", r#"[{ name = "r", type = "t", windows = ["1h"] }]"#),
        ("PENSTOCK__SHUTDOWN", r#"{ deadline = "5s" }"#),
        ("PENSTOCK_KEY", "unrelated"),
    ];
    let file = "[topics]\npartitions = 2\n[[rollups]]\nname = 'q'\ntype = 't'\nwindows = ['1d']\n";
    let config = good(file, &env).config;
    assert_eq!(config.http.listen.port(), 1);
    assert_eq!((config.topics.partitions, config.topics.retention.as_secs()), (9, 3 * 86_400));
    assert_eq!(config.schemas.unknown, UnknownType::Reject);
    assert_eq!(config.log.url, "file:/elsewhere");
    assert_eq!(config.rollups.len(), 1);
    assert_eq!(config.rollups[0].name, "r");
    assert_eq!(config.shutdown.deadline, Duration::from_secs(5));
}

#[test]
fn text_that_looks_like_a_number_can_be_text() {
    let config = good("", &[("PENSTOCK__TELEMETRY__FILTER", "3")]).config;
    assert_eq!(config.telemetry.filter.as_deref(), Some("3"));
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let env = [
        ("PENSTOCK__HTTP__LISEN", "127.0.0.1:1"),
        ("PENSTOCK__HTPP__LISTEN", "127.0.0.1:1"),
        ("PENSTOCK__TOPICS__PARTITIONS", "many"),
        ("PENSTOCK__ROLLUPS__NAME", "x"),
    ];
    let found = mistakes("", &env);
    let has = |text: &str| assert!(found.iter().any(|m| m.contains(text)), "{text}: {found:#?}");
    has(
        "environment PENSTOCK__HTTP__LISEN: http.lisen: unknown setting `lisen`; did you mean `listen`?",
    );
    has("environment PENSTOCK__HTPP__LISTEN: htpp: unknown setting `htpp`; did you mean `http`?");
    has(
        "environment PENSTOCK__TOPICS__PARTITIONS: topics.partitions: must be a whole number from 0 \
         to 4294967295, not text",
    );
    has(
        "environment PENSTOCK__ROLLUPS__NAME: rollups: is a list: set it whole, as PENSTOCK__ROLLUPS",
    );
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn every_mistake_of_a_file_is_found_at_its_place() {
    let text = "\
[http]
  lisen = '127.0.0.1:8080'
[topics]
retention = '7x'
partitions = 'four'
[stor]
url = 'file:x'
[[rollups]]
name = 'r'
typ = 'flight'
type = 'flight'
windows = ['1h']
measures = { delay = { feild = 'data.x', of = ['sum'] } }
[[processors]]
from = 'events.raw'
";
    let found = mistakes(text, &[]);
    let has = |text: &str| assert!(found.iter().any(|m| m.contains(text)), "{text}: {found:#?}");
    has("penstock.toml:2:3: http.lisen: unknown setting `lisen`; did you mean `listen`?");
    has("penstock.toml:4:13: topics.retention: `7x` is not a duration");
    has("penstock.toml:5:14: topics.partitions: must be a whole number from 0 to 4294967295");
    has("penstock.toml:6:2: stor: unknown setting `stor`; did you mean `store`?");
    has("penstock.toml:10:1: rollups[0].typ: unknown setting `typ`; did you mean `type`?");
    has("rollups[0].measures: unknown setting `feild`; did you mean `field`?");
    has("penstock.toml:14:1: processors[0]: missing field `name`");
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[test]
fn what_is_not_toml_is_placed() {
    let found = mistakes("[http]\nlisten = \n", &[]);
    assert!(found[0].starts_with("penstock.toml:2:"), "{found:#?}");
    assert!(found[0].contains("not TOML"), "{found:#?}");
}

#[test]
fn tables_and_lists_are_not_confused() {
    let found = mistakes("log = 'file:x'\n[processors]\nname = 'x'\n", &[]);
    assert!(found[0].contains("log: is a table: write [log]"), "{found:#?}");
    assert!(found[1].contains("processors: is a list of tables: write [[processors]]"));
}

const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn keys_allow_an_address_that_others_reach() {
    let key = format!("name = 'a'\nhash = '{HASH}'\nnamespace = 'n'\nscopes = ['read']\n");
    let config = good(&format!("[http]\nlisten = '0.0.0.0:80'\n[[keys]]\n{key}"), &[]).config;
    assert_eq!(config.keys[0].name, "a");
    let both = mistakes(&format!("[http]\nauth = 'none'\n[[keys]]\n{key}"), &[]);
    assert_eq!(both.len(), 1, "{both:#?}");
    assert!(both[0].starts_with("penstock.toml:2:1: http.auth: lets everybody in"), "{both:#?}");
}

#[test]
fn every_mistake_in_keys_is_found_at_its_place_and_no_hash_is_repeated() {
    let text = format!(
        "\
[[keys]]
name = 'a'
hash = '{HASH}'
namespace = 'n'
scopes = ['wirte', 'read']
[[keys]]
name = 'a'
hash = '{HASH}'
namespace = ''
scopes = []
[[keys]]
name = 'b c'
hash = 'pk_s3cret'
namespace = 'n'
scopes = ['read']
[[keys]]
name = 'd'
hash = 'sha256:0s3cret'
namespace = 'n'
scopes = ['read']
scope = 'read'
"
    );
    let found = mistakes(&text, &[]);
    let has = |text: &str| assert!(found.iter().any(|m| m.contains(text)), "{text}: {found:#?}");
    has("penstock.toml:5:1: keys[0].scopes: `wirte` is not a scope; known are write, read, admin");
    has("did you mean `write`?");
    has("penstock.toml:7:1: keys[1].name: `a` is taken by another key");
    has("penstock.toml:8:1: keys[1].hash: is also the hash of `a`");
    has("penstock.toml:9:1: keys[1].namespace: `` is not a name");
    has("penstock.toml:10:1: keys[1].scopes: is empty");
    has("penstock.toml:12:1: keys[2].name: `b c` is not a name");
    has("penstock.toml:13:1: keys[2].hash: is a key where its hash belongs");
    has("penstock.toml:18:1: keys[3].hash: is not the hash of a key");
    has("penstock.toml:21:1: keys[3].scope: unknown setting `scope`; did you mean `scopes`?");
    assert_eq!(found.len(), 9, "{found:#?}");
    assert!(!found.concat().contains("s3cret") && !found.concat().contains(&HASH[7..]));
}

#[test]
fn a_rate_that_limits_nothing_or_cannot_be_is_refused() {
    for (rate, says) in [
        ("{}", "keys[0].rate: limits nothing"),
        ("{ burst = '5s' }", "keys[0].rate: limits nothing"),
        ("{ events = 0 }", "keys[0].rate: `events` must be from 1"),
        ("{ bytes = 1, burst = '10ms' }", "keys[0].rate: `burst` must be from 1s to 1h"),
        ("{ event = 1 }", "keys[0].rate: unknown setting `event`; did you mean `events`?"),
    ] {
        let key = format!("name = 'a'\nhash = '{HASH}'\nnamespace = 'n'\nscopes = ['read']\n");
        let found = mistakes(&format!("[[keys]]\n{key}rate = {rate}\n"), &[]);
        assert_eq!(found.len(), 1, "{rate}: {found:#?}");
        assert!(found[0].starts_with("penstock.toml:6:") && found[0].contains(says), "{found:#?}");
    }
}

#[test]
fn keys_are_read_again_in_spite_of_mistakes_elsewhere_but_not_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("penstock.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load_keys(&path, std::iter::empty()).map_err(|error| error.to_string())
    };
    let key = format!("name = 'a'\nhash = '{HASH}'\nnamespace = 'n'\nscopes = ['read']\n");
    let elsewhere = read(&format!("[topics]\npartitions = 0\nx = 1\n[[keys]]\n{key}")).unwrap();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!(read("[http]\nlisten = '0.0.0.0:80'\n").unwrap(), []);
    for broken in [
        format!("[[keys]]\n{key}x = 1"),
        format!("[[key]]\n{key}"),
        format!("[[keys]\n{key}"),
        "keys = 1".into(),
    ] {
        assert!(read(&broken).is_err(), "{broken}");
    }
}

/// Each pair: a file, and what its only mistake must say.
#[test]
fn settings_that_do_not_fit_together_are_refused() {
    for (text, says) in [
        ("[http]\nlisten = '0.0.0.0:80'", "1: http.listen: is 0.0.0.0:80, which other"),
        ("[http]\nlisten = 'localhost:80'", "is not an IP address and port"),
        ("[admin]\nlisten = '127.0.0.1:8080'", "admin.listen: 127.0.0.1:8080 is taken"),
        (
            "[http]\nlisten = '127.0.0.1:9090'",
            "http.listen: 127.0.0.1:9090 is taken by admin.listen",
        ),
        ("[log]\nurl = 'postgres://me:s3cret@h'", "log.url: is neither file:PATH nor kafka://"),
        ("[log]\nurl = 'file:'", "has no path"),
        ("[log]\nurl = 'file:x'\n[store]\nurl = 'file:./x'", "store.url: is the same directory"),
        ("[ingest]\nmax_event_bytes = 0", "ingest.max_event_bytes: must be more than 0"),
        ("[ingest]\nmax_in_flight_bytes = 10", "less than one body of 16777216 bytes"),
        ("[topics]\npartitions = 5000", "at most 1024"),
        ("[schemas]\nregister = { x = 'no.avsc' }", "cannot read the schema of `x`"),
        ("[telemetry]\nfilter = 'a=b=c'", "telemetry.filter: is not a filter"),
        ("[shutdown]\ndeadline = '0s'", "shutdown.deadline: must be more than 0"),
        (
            "processors = [{ name = 'a' }, { name = 'a' }]",
            "processors[1].name: `a` is taken by another processor",
        ),
        ("processors = [{ name = 'a b' }]", "`a b` is not a name"),
        (
            "processors = [{ name = 'a', from = 'events.clean' }]",
            "processors[0].to: `events.clean` is also what it reads",
        ),
        ("processors = [{ name = 'a', to = 'x' }]", "none of them writes to events.clean"),
        ("processors = [{ name = 'a', steps = [{}] }]", "processors[0].steps[0]: must be a table"),
        ("rollups = [{ name = '_a', type = 't', windows = ['1h'] }]", "Penstock's own"),
        ("rollups = [{ name = 'a', type = 't', windows = [] }]", "name at least one"),
        ("rollups = [{ name = 'a', type = 't', windows = ['60m', '1h'] }]", "`1h` is as long as"),
        ("rollups = [{ name = 'a', type = 't', windows = ['1ms'] }]", "not between 1s and 366d"),
        (
            "rollups = [{ name = 'a', type = 't', windows = ['1h'], group_by = { count = 'x' } }]",
            "rollups[0].group_by.count: every row has a column `count` already",
        ),
        (
            "rollups = [{ name = 'a', type = 't', windows = ['1h'], measures = { d = { field = \
             'x', of = ['p50'] } } }]",
            "rollups[0].measures.d.of: `p50` comes in a later version",
        ),
    ] {
        let found = mistakes(text, &[]);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].contains(says), "{text}: {found:#?}");
        assert!(found[0].starts_with("penstock.toml:"), "{text}: {found:#?}");
        assert!(!found[0].contains("s3cret"));
    }
}

#[test]
fn an_entry_that_cannot_be_read_does_not_move_the_places_of_others() {
    let found = mistakes(
        "[[processors]]\nname = 5\n[[processors]]\nname = 'a b'\n[[processors]]\nname = 'c'\n",
        &[],
    );
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("penstock.toml:2:8: processors[0].name: must be text"));
    assert!(found[1].starts_with("penstock.toml:4:1: processors[1].name: `a b`"), "{found:#?}");
}

#[test]
fn every_wrong_type_of_an_entry_is_told_and_the_rest_is_checked() {
    let text = "\
[[keys]]
name = 'a'
hash = 5
namespace = 'n'
scopes = 'read'
[[processors]]
name = 'a b'
delivery = 'exactlyonce'
";
    let found = mistakes(text, &[]);
    let has = |text: &str| assert!(found.iter().any(|m| m.contains(text)), "{text}: {found:#?}");
    has("penstock.toml:3:8: keys[0].hash: must be text");
    has("penstock.toml:5:10: keys[0].scopes: must be a list");
    has("penstock.toml:7:1: processors[0].name: `a b` is not a name");
    has("penstock.toml:8:12: processors[0].delivery: must be one of: exactly_once, at_least_once");
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn what_is_inside_a_setting_is_placed_at_its_own_line() {
    let text = "[log.properties]\nacks = 1\n[[processors]]\nname = 'a'\nsteps = [\n  {},\n]\n";
    let loaded = good(&text.replace("{}", "{ x = 1 }"), &[("PENSTOCK__STORE__URL", "file:x")]);
    let place = |setting: &str| {
        let told = loaded.config.origins.mistake(setting, "").to_string();
        told.rsplit_once('/').map_or(told.clone(), |(_, told)| told.to_owned())
    };
    assert_eq!(place("log.properties.acks"), "penstock.toml:2:1: log.properties.acks: ");
    assert_eq!(place("processors[0].steps[0]"), "penstock.toml:6:3: processors[0].steps[0]: ");
    assert_eq!(place("store.url"), "environment PENSTOCK__STORE__URL: store.url: ");
}

#[test]
fn mistakes_about_kafka_and_a_cql_store_are_found_at_their_lines() {
    let text = "\
[log]
url = 'kafka://broker-1:9092,broker-2:'
instance = 'sink 1'
[log.properties]
'compression.type' = 'lz4'
[store]
url = 'scylla://a:9042'
replication = 0
user = 'penstock'
datacenter = ''
";
    let found = mistakes(text, &[]);
    let has = |text: &str| assert!(found.iter().any(|m| m.contains(text)), "{text}: {found:#?}");
    has("penstock.toml:2:1: log.url: `` is not a port: write broker-2:9092");
    has("penstock.toml:3:1: log.instance: `sink 1` is not a name");
    has("penstock.toml:7:1: store.url: names no keyspace: write scylla://HOST:9042");
    has("penstock.toml:8:1: store.replication: must be more than 0");
    has("penstock.toml:9:1: store.user: needs a `password` too");
    has("penstock.toml:10:1: store.datacenter: is empty");
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn properties_are_text_however_they_are_written() {
    let text =
        "[log]\nproperties = { 'linger.ms' = 5, 'socket.keepalive.enable' = true, a = 'b' }\n";
    let properties = good(text, &[]).config.log.properties;
    assert_eq!(properties["linger.ms"], "5");
    assert_eq!(properties["socket.keepalive.enable"], "true");
    assert_eq!(properties["a"], "b");
}

#[test]
fn a_property_whose_dots_made_it_a_table_is_explained_without_its_value() {
    let found = mistakes("[log.properties]\nsasl.password = 's3cret'\n", &[]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("`sasl` is table") && found[0].contains("in quotes"), "{found:#?}");
    assert!(!found[0].contains("s3cret"), "{found:#?}");
}

/// Each: a file, the environment, and what its only mistake must say.
#[test]
fn a_secret_of_the_wrong_type_is_not_repeated() {
    let key = "name = 'a'\nnamespace = 'n'\nscopes = ['read']\n";
    let properties = "PENSTOCK__LOG__PROPERTIES";
    for (text, env, says) in [
        ("", Some((properties, r#"{ "sasl.password" = "77777777" "#)), "must be a table, not text"),
        ("[log]\nproperties = 'sasl.password=77777777'", None, "must be a table, not text"),
        ("[log]\nproperties = 77777777", None, "must be a table, not a whole number"),
        ("[log]\nproperties = ['77777777']", None, "must be a table, not a list"),
        ("[store]\npassword = 77777777", None, "store.password: must be text, not a whole number"),
        ("[store]\npassword = 77777777.5", None, "must be text, not a number with a fraction"),
        (
            "[schemas]\nregistry_password = 77777777",
            None,
            "schemas.registry_password: must be text",
        ),
        (&format!("[[keys]]\nhash = 77777777\n{key}"), None, "keys[0].hash: must be text"),
        ("[http]\nauth = '77777777'", None, "http.auth: must be one of: none"),
        ("[http]\nlisten = 'https://me:77777777@x'", None, "`https://***@x` is not an IP address"),
    ] {
        let found = mistakes(text, env.as_slice());
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].contains(says), "{text}: {found:#?}");
        assert!(!found[0].contains("7777"), "{text}: {found:#?}");
    }
}

#[test]
fn what_is_expected_is_said_in_words() {
    let whole = "must be a whole number from 0 to ";
    for (text, says) in [
        ("[topics]\npartitions = 99999999999999999999", format!("{whole}4294967295")),
        ("[topics]\nreplication = -1", format!("{whole}65535")),
        ("[ingest]\nmax_body_bytes = 'big'", format!("{whole}18446744073709551615, not text")),
        ("[http]\ntls = 'on'", "must be a table, not text".into()),
        ("[http]\nauth = 'non'", "must be one of: none; did you mean `none`?".into()),
    ] {
        let found = mistakes(text, &[]);
        assert!(found[0].ends_with(&says), "{text}: {found:#?}");
    }
}

#[test]
fn secrets_can_come_from_the_environment_alone() {
    let env = [
        ("PENSTOCK__STORE__USER", "penstock"),
        ("PENSTOCK__STORE__PASSWORD", "123"),
        ("PENSTOCK__LOG__PROPERTIES", r#"{ "sasl.password" = "s3cret" }"#),
    ];
    let config = good("", &env).config;
    assert_eq!(config.store.password.as_deref(), Some("123"));
    assert_eq!(config.log.properties["sasl.password"], "s3cret");
    assert!(!service::config::show(&config).contains("s3cret"));
}

#[test]
fn processors_that_feed_each_other_for_ever_are_refused() {
    let text = "processors = [{ name = 'a', to = 'x' }, { name = 'b', from = 'x' }, \
                { name = 'c', from = 'events.clean', to = 'events.raw' }]";
    let found = mistakes(text, &[]);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|m| m.contains("leads back")), "{found:#?}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_with_what_to_do() {
    let of = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let ((cert, key), (_, other_key)) = (of("localhost"), of("localhost"));
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key, other) =
        (file("cert.pem", &cert), file("key.pem", &key), file("other.pem", &other_key));
    let sealed = file(
        "sealed.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let tls = |cert: &str, key: &str, more: &str| {
        format!("[http.tls]\ncert = '{cert}'\nkey = '{key}'\n{more}")
    };
    good(&tls(&cert, &key, ""), &[]);
    let loaded = good("", &[("PENSTOCK__HTTP__TLS", &format!("{{cert='{cert}',key='{key}'}}"))]);
    assert!(loaded.config.http.tls.is_some());
    for (text, told) in [
        (tls("nowhere.pem", &key, ""), "http.tls.cert: nowhere.pem: cannot be read"),
        (tls(&key, &key, ""), "holds no certificates in PEM form"),
        (tls(&cert, &cert, ""), "holds no private key in PEM form"),
        (tls(&cert, &sealed, ""), "the private key is encrypted"),
        (tls(&cert, &other, ""), "is not the key of the certificate"),
        (tls(&cert, &key, &format!("client_ca = '{key}'")), "http.tls.client_ca"),
        (tls(&cert, &key, "client_auth = 'required'"), "http.tls.client_auth: needs `client_ca`"),
        (tls(&cert, &key, "client_auth = 'maybe'"), "must be one of: optional, required"),
        (format!("[http.tls]\ncert = '{cert}'"), "missing field `key`"),
        (
            tls(&cert, &key, "client_auht = 'x'"),
            "unknown setting `client_auht`; did you mean `client_auth`?",
        ),
    ] {
        let found = mistakes(&text, &[]);
        assert!(found.len() == 1 && found[0].contains(told), "{told}: {found:#?}");
        assert!(found[0].contains("penstock.toml:"), "{found:#?}");
    }
}

#[test]
fn tokens_need_an_issuer_an_audience_and_algorithms_that_no_reader_could_sign_with() {
    let good_jwt = "[jwt]\njwks = 'jwks.json'\nissuer = 'i'\naudience = 'a'\n";
    let (dir, loaded) = load_with(&format!("{good_jwt}[http]\nlisten = '0.0.0.0:80'\n"), &[]);
    let jwks = loaded.unwrap().config.jwt.jwks.unwrap();
    assert_eq!(jwks, format!("{}/jwks.json", dir.path().display()));
    for (text, says) in [
        ("[jwt]\njwks = 'x'\naudience = 'a'".to_owned(), "jwt.issuer: is needed with `jwks`"),
        ("[jwt]\njwks = 'x'\nissuer = 'i'".to_owned(), "jwt.audience: is needed with `jwks`"),
        ("[jwt]\nissuer = 'i'".to_owned(), "jwt.issuer: does nothing without `jwks`"),
        (good_jwt.replace("jwks.json", "ftp://x/y"), "jwt.jwks: `ftp` is not spoken here"),
        (format!("{good_jwt}algorithms = ['HS256']"), "jwt.algorithms: `HS256` cannot be allowed"),
        (format!("{good_jwt}algorithms = ['none']"), "jwt.algorithms: `none` cannot be allowed"),
        (format!("{good_jwt}algorithms = []"), "jwt.algorithms: is empty"),
        (format!("{good_jwt}[http]\nauth = 'none'"), "jwt.jwks: is not looked at"),
    ] {
        let found = mistakes(&text, &[]);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].contains(says), "{found:#?}");
    }
}
