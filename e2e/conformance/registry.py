"""The registry client, serializer and deserializer of confluent-kafka, unchanged, against /registry.

    python registry.py http://127.0.0.1:8080 [--value HEX] [--kafka HOST:PORT,...]

It registers, looks up, checks, configures and deletes schemas. With the brokers that the server writes to, it also
posts events, evolves their schema, and reads them back from `events.raw`. With a value that Penstock wrote for an event
of type `order.placed`, it decodes that and no more.
"""

import argparse
import json
import time
import urllib.request

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

arguments = argparse.ArgumentParser()
arguments.add_argument("base")
arguments.add_argument("--value")
arguments.add_argument("--kafka")
given = arguments.parse_args()

BASE = given.base.rstrip("/")
SUBJECT = "order.placed"
client = SchemaRegistryClient({"url": f"{BASE}/registry", "basic.auth.user.info": "any:key"})

at = SerializationContext("events.raw", MessageField.VALUE)
order = {"amount": 12.5, "note": None}

if given.value:
    assert AvroDeserializer(client)(bytes.fromhex(given.value), at) == order
    print("what Penstock wrote is decoded")
    raise SystemExit


def record(name, *fields):
    return json.dumps({"type": "record", "name": name, "fields": list(fields)})


def refused(status, code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except SchemaRegistryError as error:
        found = (error.http_status_code, error.error_code)
        assert found == (status, code), f"{found}: {error.error_message}"
        return error.error_message
    raise AssertionError(f"{call} was not refused")


AMOUNT = {"name": "amount", "type": "double"}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
one = Schema(record("Order", AMOUNT), "AVRO")
two = Schema(record("Order", AMOUNT, NOTE), "AVRO")
clash = Schema(record("Order", {"name": "amount", "type": "string"}), "AVRO")

# Registering and looking up
first = client.register_schema(SUBJECT, one)
assert client.register_schema(SUBJECT, one) == first
second = client.register_schema(SUBJECT, two)
assert second != first
assert json.loads(client.get_schema(first).schema_str) == json.loads(one.schema_str)
found = client.lookup_schema(SUBJECT, two)
assert (found.schema_id, found.version, found.subject) == (second, 2, SUBJECT), found
latest = client.get_latest_version(SUBJECT)
assert (latest.schema_id, latest.version) == (second, 2), latest
assert client.get_version(SUBJECT, 1).schema_id == first
assert client.get_subjects() == [SUBJECT]
assert client.get_versions(SUBJECT) == [1, 2]
assert client.register_schema("a type/with slashes", one) == first, "one schema, one id"
assert set(client.get_subjects()) == {SUBJECT, "a type/with slashes"}
refused(404, 40401, client.get_latest_version, "nothing")
refused(404, 40402, client.get_version, SUBJECT, 9)
refused(404, 40403, client.get_schema, 4711)
refused(422, 42201, client.register_schema, SUBJECT, Schema("{", "AVRO"))
refused(422, 42201, client.register_schema, SUBJECT, Schema('syntax = "proto3";', "PROTOBUF"))

# Compatibility
why = refused(409, 409, client.register_schema, SUBJECT, clash)
assert "/data/amount" in why, why
assert client.test_compatibility(SUBJECT, two)
assert not client.test_compatibility(SUBJECT, clash)
assert client.get_compatibility() == "BACKWARD_TRANSITIVE"
client.set_compatibility(SUBJECT, "NONE")
assert client.get_compatibility(SUBJECT) == "NONE"
assert client.test_compatibility(SUBJECT, clash)
client.set_compatibility(SUBJECT, "FULL_TRANSITIVE")
refused(422, 42203, client.set_compatibility, SUBJECT, "SOMETIMES")

# References
client.register_schema("money", Schema(json.dumps({"type": "enum", "name": "Unit", "symbols": ["EUR"]}), "AVRO"))
unit = [SchemaReference("Unit", "money", 1)]
priced = Schema(record("Price", {"name": "unit", "type": "Unit"}), "AVRO", unit)
client.register_schema("price", priced)
assert client.get_latest_version("price").schema.references == unit
refused(422, 42206, client.delete_subject, "money")

# Deletion
assert client.delete_version("a type/with slashes", 1) == 1
refused(404, 40401, client.get_versions, "a type/with slashes")
assert client.delete_subject("price") == [1]
assert client.delete_subject("price", permanent=True) == [1]
refused(404, 40401, client.delete_subject, "price")

# A serializer and a deserializer, with subjects named like event types
options = {"auto.register.schemas": False, "use.latest.version": True, "subject.name.strategy": lambda *_: SUBJECT}
value = AvroSerializer(client, conf=options)(order, at)
assert value[:5] == bytes([0]) + second.to_bytes(4, "big"), value
assert AvroDeserializer(client)(value, at) == order
print("the client of confluent-kafka is served")


# What ingest writes to Kafka, before and after the schema evolved
def post(number, data):
    event = {"specversion": "1.0", "id": number, "source": "/shop", "type": SUBJECT, "subject": "alice", "data": data}
    headers = {"content-type": "application/cloudevents+json"}
    request = urllib.request.Request(f"{BASE}/v1/events", json.dumps(event).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 202, answer.status


def read(topic, count):
    """The records of a topic from its beginning, by the event's id."""
    config = {"bootstrap.servers": given.kafka, "group.id": "conformance", "enable.auto.commit": False}
    consumer = Consumer(config | {"auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found, deadline = {}, time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        record = consumer.poll(1)
        if record is not None:
            assert record.error() is None, record.error()
            found[dict(record.headers())["ce_id"].decode()] = record
    consumer.close()
    return found


if given.kafka:
    unit = {"name": "unit", "type": "string", "default": "EUR"}
    three = Schema(record("Order", AMOUNT, NOTE, unit), "AVRO")
    post("1", {"amount": 12.5})
    third = client.register_schema(SUBJECT, three)
    post("2", {"amount": 3, "note": "gift", "unit": "USD"})
    why = refused(409, 409, client.register_schema, SUBJECT, clash)
    assert "version" in why and "/data/amount" in why, why

    records = read("events.raw", 2)
    as_written, as_latest = AvroDeserializer(client), AvroDeserializer(client, three)
    values = {number: record.value() for number, record in records.items()}
    assert int.from_bytes(values["1"][1:5], "big") == second and int.from_bytes(values["2"][1:5], "big") == third
    assert as_written(values["1"], at) == {"amount": 12.5, "note": None}
    assert as_written(values["2"], at) == {"amount": 3, "note": "gift", "unit": "USD"}
    assert as_latest(values["1"], at) == {"amount": 12.5, "note": None, "unit": "EUR"}
    headers = dict(records["1"].headers())
    assert (headers["ce_type"], headers["content-type"]) == (SUBJECT.encode(), b"application/avro"), headers
    assert records["1"].key() == records["2"].key() == b"alice"
    print("what ingest wrote to Kafka is read, before and after its schema evolved")
