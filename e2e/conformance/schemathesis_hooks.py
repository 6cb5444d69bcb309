"""What schemathesis cannot know by itself of this API."""

import json
import zlib

import requests
import schemathesis

RECORD = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}
AVRO = ["string", RECORD, {**RECORD, "fields": [*RECORD["fields"], {"name": "b", "type": "long", "default": 0}]}]


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """A body of this type is a text; what else is generated is written as JSON."""
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogatepass")


@schemathesis.hook
def map_headers(context, headers):
    """Nothing here compresses a body to keep what this header promises; tests of `ingest` do."""
    return {name: value for name, value in (headers or {}).items() if name.lower() != "content-encoding"}


@schemathesis.hook
def map_body(context, body):
    """Every other schema is Avro: no text that is made up would ever be."""
    if context.operation.path.startswith("/registry/") and isinstance(body, dict):
        schema = body.get("schema")
        if isinstance(schema, str) and schema:
            at = zlib.crc32(schema.encode("utf-8", "surrogatepass")) % (2 * len(AVRO))
            if at < len(AVRO):
                body["schema"] = json.dumps(AVRO[at])
    return body


@schemathesis.hook
def after_call(context, case, response):
    """READONLY is taken back at once: all that follows would be refused."""
    sent = response.request
    if sent.method == "PUT" and "/registry/mode" in sent.url and response.status_code == 200:
        body = json.dumps({"mode": "READWRITE"})
        headers = {name: value for name, value in sent.headers.items() if name.lower() != "content-length"}
        requests.put(sent.url, data=body, headers=headers, timeout=20).raise_for_status()
