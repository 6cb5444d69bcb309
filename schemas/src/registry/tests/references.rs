//! Schemas that use types of other subjects.

use super::*;
use crate::{Data, UnknownFields};

const UNIT: &str = r#"{"type":"enum","name":"Unit","namespace":"money","symbols":["EUR","USD"]}"#;
const AMOUNT: &str = r#"{"type":"record","name":"money.Amount","fields":[{"name":"unit","type":"Unit"},{"name":"value","type":"long"}]}"#;
const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"total","type":"money.Amount"},{"name":"unit","type":["null","money.Unit"],"default":null}]}"#;

fn reference(name: &str, subject: &str, version: i32) -> Reference {
    Reference { name: name.into(), subject: subject.into(), version }
}

async fn orders(log: &Log) -> Registry {
    let registry = open(log).await;
    registry.register("n", "unit", UNIT).await.unwrap();
    let unit = [reference("money.Unit", "unit", 1)];
    let amount = Draft { text: AMOUNT, references: &unit, ..Draft::default() };
    registry.register_draft("n", "amount", &amount).await.unwrap();
    let amount = [reference("money.Amount", "amount", -1)];
    let order = Draft { text: ORDER, references: &amount, ..Draft::default() };
    registry.register_draft("n", "order", &order).await.unwrap();
    registry
}

#[tokio::test]
async fn given_references_to_references_then_data_is_encoded_and_decoded_with_them_on_every_replica()
 {
    let log = test_log().await;
    let writer = orders(&log).await;
    let data = Data::Json(r#"{"total":{"unit":"USD","value":5},"unit":null}"#.into());
    let order = writer.latest("n", "order").unwrap();
    let value = order.framed().encode(&data, UnknownFields::Reject).unwrap();
    let reader = open(&log).await;
    assert_eq!(reader.framed(order.id).unwrap().decode(&value[5..]), Ok(data));
}

#[tokio::test]
async fn given_a_reference_to_the_latest_version_then_it_is_kept_by_number() {
    let log = test_log().await;
    let registry = orders(&log).await;
    let order = registry.latest("n", "order").unwrap();
    assert_eq!(*order.references, [reference("money.Amount", "amount", 1)]);
    let view = registry.view("n");
    let amount = view.version("amount", VersionName::Latest, Show::Live).unwrap();
    assert_eq!(view.referenced_by(&amount), [order.id]);
}

#[tokio::test]
async fn given_a_reference_to_nothing_then_the_schema_is_invalid() {
    let log = test_log().await;
    let registry = open(&log).await;
    for references in [vec![], vec![reference("money.Amount", "amount", 1)]] {
        let draft = Draft { text: ORDER, references: &references, ..Draft::default() };
        let refused = registry.register_draft("n", "order", &draft).await;
        assert!(matches!(refused, Err(RegisterError::Invalid(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn given_a_version_that_others_refer_to_then_it_is_not_deleted_before_them() {
    let log = test_log().await;
    let registry = orders(&log).await;
    let refused = registry.delete_subject("n", "amount", false).await;
    assert_eq!(refused, Err(Denied::Referenced("amount".into(), 1, vec![3]).into()));
    registry.delete_subject("n", "order", false).await.unwrap();
    registry.delete_subject("n", "amount", false).await.unwrap();
    registry.delete_subject("n", "amount", true).await.unwrap();
    let data = Data::Json(r#"{"total":{"unit":"USD","value":5},"unit":null}"#.into());
    let reader = open(&log).await;
    let order = reader.by_id(3).unwrap();
    assert!(
        order.framed().encode(&data, UnknownFields::Reject).is_ok(),
        "what it wrote still decodes"
    );
}
