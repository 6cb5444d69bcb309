"""The registry client, serializer and deserializer of confluent-kafka, unchanged, against /registry.

    python registry.py http://127.0.0.1:8080 [a record's value, as hexadecimal digits]

It registers, looks up, checks, configures and deletes schemas; or, with a value that Penstock wrote for an
event of type `order.placed`, it decodes that and no more.
"""

import json
import sys

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

BASE = sys.argv[1].rstrip("/")
SUBJECT = "order.placed"
client = SchemaRegistryClient({"url": f"{BASE}/registry", "basic.auth.user.info": "any:key"})

at = SerializationContext("events.raw", MessageField.VALUE)
order = {"amount": 12.5, "note": None}

if len(sys.argv) > 2:
    assert AvroDeserializer(client)(bytes.fromhex(sys.argv[2]), at) == order
    print("what Penstock wrote is decoded")
    sys.exit()


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
