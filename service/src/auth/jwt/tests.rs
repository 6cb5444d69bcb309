//! Tokens made here with keys made here, and what becomes of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::json;

use super::*;

mod rsa;

/// How soon keys are read again here.
const PAUSE: Duration = Duration::from_millis(200);

/// An issuer with one key of each kind.
struct Issuer {
    ed: Ed25519KeyPair,
    es: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let rng = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
        let rule = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let es = EcdsaKeyPair::generate_pkcs8(rule, &rng).unwrap();
        Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            es: EcdsaKeyPair::from_pkcs8(rule, es.as_ref(), &rng).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let point = self.es.public_key().as_ref();
        json!({ "keys": [
            { "kty": "strange", "kid": "odd" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": B64.encode(self.ed.public_key()) },
            { "kty": "EC", "crv": "P-256", "kid": "es", "use": "sig", "alg": "ES256",
              "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..]) },
        ]})
    }

    fn token(&self, header: Value, claims: &Value) -> String {
        let part = |value: &Value| B64.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = match header["alg"].as_str() {
            Some("ES256") => {
                let rng = SystemRandom::new();
                self.es.sign(&rng, message.as_bytes()).unwrap().as_ref().to_vec()
            }
            _ => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", B64.encode(signature))
    }

    fn good(&self, claims: &Value) -> String {
        self.token(json!({ "alg": "EdDSA", "kid": "ed" }), claims)
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["other", "penstock"], "exp": now() + 60,
        "namespace": "shop", "scope": "openid write read",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// Judges by a file of keys, which the folder holds.
async fn tokens(jwks: &Value) -> (Arc<Tokens>, tempfile::TempDir) {
    tokens_of(jwks, JwtConfig::default())
}

/// The same with other algorithms than those that are allowed without being named.
async fn tokens_allowing(jwks: &Value, algorithms: &[&str]) -> (Arc<Tokens>, tempfile::TempDir) {
    let algorithms = algorithms.iter().map(|name| (*name).to_owned()).collect();
    tokens_of(jwks, JwtConfig { algorithms, ..JwtConfig::default() })
}

fn tokens_of(jwks: &Value, config: JwtConfig) -> (Arc<Tokens>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, jwks.to_string()).unwrap();
    let config = JwtConfig {
        jwks: Some(path.display().to_string()),
        issuer: Some("https://id.example".into()),
        audience: Some("penstock".into()),
        refresh: PAUSE,
        ..config
    };
    let mut tokens = Tokens::new(&config).unwrap();
    tokens.jwks.unknown_pause = PAUSE;
    (Arc::new(tokens), dir)
}

#[tokio::test]
async fn a_token_of_the_issuer_names_its_caller_whatever_the_algorithm() {
    let issuer = Issuer::new();
    let (tokens, _dir) = tokens(&issuer.jwks()).await;
    for header in [json!({ "alg": "EdDSA", "kid": "ed" }), json!({ "alg": "ES256" })] {
        let caller = tokens.caller(&issuer.token(header, &claims())).await.unwrap();
        assert_eq!((&*caller.name, &*caller.namespace), ("jwt", "shop"));
        assert!(caller.may(Scope::Write) && caller.may(Scope::Read) && !caller.may(Scope::Admin));
    }
    let listed = issuer.good(&with("scope", json!(["admin"])));
    assert!(tokens.caller(&listed).await.unwrap().may(Scope::Admin));
}

#[tokio::test]
async fn a_token_that_is_no_proof_is_refused_with_its_own_reason() {
    let issuer = Issuer::new();
    let (tokens, _dir) = tokens(&issuer.jwks()).await;
    let good = issuer.good(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let forged = B64.encode(with("namespace", json!("bank")).to_string());
    let mut no_exp = claims();
    no_exp.as_object_mut().unwrap().remove("exp");
    let of = |header, claims: &Value| issuer.token(header, claims);
    for (token, fault) in [
        ("a.b.c".to_owned(), TokenFault::Malformed),
        (format!("{header}.{forged}.{signature}"), TokenFault::BadSignature),
        (format!("{message}."), TokenFault::BadSignature),
        (of(json!({ "alg": "none" }), &claims()), TokenFault::Algorithm),
        (
            of(json!({ "alg": "EdDSA", "kid": "ed", "crit": ["x"], "x": 1 }), &claims()),
            TokenFault::Critical,
        ),
        (of(json!({ "alg": "HS256", "kid": "ed" }), &claims()), TokenFault::Algorithm),
        (of(json!({ "alg": "RS512", "kid": "ed" }), &claims()), TokenFault::Algorithm),
        (of(json!({ "alg": "ES256", "kid": "ed" }), &claims()), TokenFault::UnknownKeyId),
        (of(json!({ "alg": "EdDSA", "kid": "new" }), &claims()), TokenFault::UnknownKeyId),
        (issuer.good(&with("exp", json!(now() - 31))), TokenFault::Expired),
        (issuer.good(&with("exp", json!("soon"))), TokenFault::MissingClaim),
        (issuer.good(&no_exp), TokenFault::MissingClaim),
        (issuer.good(&with("nbf", json!(now() + 60))), TokenFault::NotYetValid),
        (issuer.good(&with("iss", json!("https://evil.example"))), TokenFault::WrongIssuer),
        (issuer.good(&with("aud", json!("other"))), TokenFault::WrongAudience),
        (issuer.good(&with("namespace", json!("a b"))), TokenFault::NoNamespace),
        (issuer.good(&with("namespace", json!(7))), TokenFault::NoNamespace),
    ] {
        assert_eq!(tokens.caller(&token).await, Err(fault.into()), "{fault:?}: {token}");
    }
    let within_leeway = issuer.good(&with("exp", json!(now() - 20)));
    assert!(tokens.caller(&within_leeway).await.is_ok());
}

#[tokio::test]
async fn a_rotated_key_is_found_by_reading_again_but_not_for_every_unknown_id() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let (tokens, dir) = tokens(&old.jwks()).await;
    assert!(tokens.caller(&old.good(&claims())).await.is_ok());
    let mut rotated = new.jwks();
    rotated["keys"][1]["kid"] = json!("ed-2");
    std::fs::write(dir.path().join("jwks.json"), rotated.to_string()).unwrap();
    let token = new.token(json!({ "alg": "EdDSA", "kid": "ed-2" }), &claims());
    let too_soon = tokens.caller(&token).await;
    assert_eq!(too_soon, Err(TokenFault::UnknownKeyId.into()));
    tokio::time::sleep(PAUSE).await;
    assert!(tokens.caller(&token).await.is_ok());
    assert!(tokens.caller(&old.good(&claims())).await.is_err());
}

#[tokio::test]
async fn keys_that_were_read_stay_while_their_source_is_away() {
    let issuer = Issuer::new();
    let (tokens, dir) = tokens(&issuer.jwks()).await;
    let health = crate::health::Health::default();
    let upkeep = tokio::spawn(tokens.clone().keep_fresh(health.part("jwks")));
    let token = issuer.good(&claims());
    assert!(tokens.caller(&token).await.is_ok());
    std::fs::write(dir.path().join("jwks.json"), "{").unwrap();
    while health.notes().is_empty() {
        tokio::time::sleep(PAUSE).await;
    }
    assert!(health.failing().is_empty());
    assert!(tokens.caller(&token).await.is_ok());
    upkeep.abort();
}

#[tokio::test]
async fn without_any_keys_of_the_issuer_nothing_is_judged() {
    let (tokens, _dir) = tokens(&json!({ "keys": [] })).await;
    assert_eq!(tokens.caller(&Issuer::new().good(&claims())).await, Err(Unproven::NoKeys));
}
