//! Tokens signed with RSA. Nothing here can make such a key, so there is one that only tests use.

use ring::{
    rsa::{KeyPair, PublicKeyComponents},
    signature::{
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
        RSA_PSS_SHA512, RsaEncoding,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use super::*;

/// RFC 7518, 3.1.
const ALGORITHMS: [(&str, &dyn RsaEncoding); 6] = [
    ("RS256", &RSA_PKCS1_SHA256),
    ("RS384", &RSA_PKCS1_SHA384),
    ("RS512", &RSA_PKCS1_SHA512),
    ("PS256", &RSA_PSS_SHA256),
    ("PS384", &RSA_PSS_SHA384),
    ("PS512", &RSA_PSS_SHA512),
];

/// An issuer with one RSA key.
struct RsaIssuer(KeyPair);

impl RsaIssuer {
    fn new() -> Self {
        let pem = include_bytes!("rsa-only-for-tests.pem");
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
        Self(KeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap())
    }

    /// Its key set; the key is for one algorithm, or for each that is of its kind.
    fn jwks(&self, alg: Option<&str>) -> Value {
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.0.public());
        let mut key = json!({ "kty": "RSA", "kid": "rsa", "use": "sig", "n": B64.encode(n), "e": B64.encode(e) });
        if let Some(alg) = alg {
            key["alg"] = json!(alg);
        }
        json!({ "keys": [key] })
    }

    /// A token whose header says `alg`, signed as `by` signs.
    fn token(&self, alg: &str, by: &'static dyn RsaEncoding) -> String {
        let part = |value: &Value| B64.encode(value.to_string());
        let header = json!({ "alg": alg, "kid": "rsa", "typ": "JWT" });
        let message = format!("{}.{}", part(&header), part(&claims()));
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(by, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", B64.encode(signature))
    }
}

#[tokio::test]
async fn every_rsa_algorithm_that_is_allowed_is_verified_as_itself_and_as_no_other() {
    let issuer = RsaIssuer::new();
    let (tokens, _dir) = tokens_allowing(&issuer.jwks(None), &ALGORITHMS.map(|(a, _)| a)).await;
    for (alg, encoding) in ALGORITHMS {
        let caller = tokens.caller(&issuer.token(alg, encoding)).await.unwrap();
        assert_eq!(&*caller.namespace, "shop", "{alg}");
        for (other, _) in ALGORITHMS.iter().filter(|(other, _)| *other != alg) {
            let lying = tokens.caller(&issuer.token(other, encoding)).await;
            assert_eq!(lying, Err(TokenFault::BadSignature.into()), "{alg} as {other}");
        }
    }
}

#[tokio::test]
async fn a_forged_token_of_an_rsa_key_is_refused() {
    let issuer = RsaIssuer::new();
    let (tokens, _dir) = tokens(&issuer.jwks(None)).await;
    let good = issuer.token("RS256", &RSA_PKCS1_SHA256);
    assert!(tokens.caller(&good).await.is_ok());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let claims = B64.encode(with("namespace", json!("bank")).to_string());
    let forged = tokens.caller(&format!("{header}.{claims}.{signature}")).await;
    assert_eq!(forged, Err(TokenFault::BadSignature.into()));
}

#[tokio::test]
async fn neither_the_token_nor_the_key_can_widen_what_is_allowed() {
    let issuer = RsaIssuer::new();
    // PS256 is not among the algorithms that are allowed without being named.
    let (by_default, _dir) = tokens(&issuer.jwks(None)).await;
    let pss = issuer.token("PS256", &RSA_PSS_SHA256);
    assert_eq!(by_default.caller(&pss).await, Err(TokenFault::Algorithm.into()));
    // The issuer's key is for RS256 alone.
    let (both, _dir) = tokens_allowing(&issuer.jwks(Some("RS256")), &["RS256", "PS256"]).await;
    assert!(both.caller(&issuer.token("RS256", &RSA_PKCS1_SHA256)).await.is_ok());
    assert_eq!(both.caller(&pss).await, Err(TokenFault::UnknownKeyId.into()));
}
