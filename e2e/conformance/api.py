"""Holds the served OpenAPI document against the specification, and answers against the document.

    python api.py http://127.0.0.1:8080
"""

import json
import sys
import time
import urllib.error
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

BASE = sys.argv[1]
CLOUDEVENTS = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def ask(target, body=None, method=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{BASE}{target}", data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


document = json.loads(ask("/openapi.json")[2])
OpenAPIV31SpecValidator(document).validate()
paths = document["paths"]
print(f"a valid document of {len(paths)} paths")


def check(status, path, target=None, body=None, method=None, **headers):
    """Asks, and holds the answer against what the document says of this path and status."""
    method = method or ("GET" if body is None else "POST")
    found, answered, text = ask(target or path, body, method, **headers)
    assert found == status, f"{target or path}: {found}, not {status}: {text}"
    operation = paths[path][method.lower()]
    described = operation["responses"][str(status)]
    content_type = answered.get_content_type()
    assert content_type in described["content"], f"{path} {status}: {content_type} is not described"
    assert answered["x-request-id"], f"{path} {status}"
    if not content_type.endswith("json"):
        return None
    schema = {**described["content"][content_type]["schema"], "components": document["components"]}
    read = json.loads(text)
    errors = [e.message for e in Draft202012Validator(schema).iter_errors(read)]
    assert not errors, f"{target or path} {status}: {errors}"
    return read


# Every example of the document is taken.
taken = 0
for content_type, content in paths["/v1/events"]["post"]["requestBody"]["content"].items():
    example = content.get("example")
    if example is None:
        name = content["schema"]["$ref"].rsplit("/", 1)[1]
        example = document["components"]["schemas"][name]["example"]
    body = example if isinstance(example, str) else json.dumps(example)
    check(202, "/v1/events", body=body.encode(), content_type=content_type)
    taken += 1
print(f"{taken} examples were taken")

good = '{"specversion":"1.0","id":"o","source":"/shop","type":"order.placed","data":{"carrier":"UA","delay":1}}'
check(207, "/v1/events", body=f"[{good},{{}}]".encode(), content_type=BATCH)
check(422, "/v1/events", body=b"{}", content_type=CLOUDEVENTS)
check(400, "/v1/events", body=b"[", content_type=BATCH)
check(415, "/v1/events", body=b"x", content_type="text/plain")
for _ in range(300):
    if ask("/v1/event?source=/shop&id=o")[0] == 200:
        break
    time.sleep(0.1)
check(200, "/v1/event", "/v1/event?source=/shop&id=o")
check(404, "/v1/event", "/v1/event?source=/shop&id=none")
page = check(200, "/v1/events", "/v1/events?type=order.placed&limit=1")
assert page["next"], page
check(400, "/v1/events")
check(406, "/v1/events", "/v1/events?type=order.placed", accept="text/csv")
assert check(200, "/v1/types")["types"]
assert check(200, "/v1/rollups")["rollups"]
rows = check(200, "/v1/rollups/{name}", "/v1/rollups/orders?window=1h")
assert rows["rows"], rows
check(404, "/v1/rollups/{name}", "/v1/rollups/none")

# The registry
REGISTRY = "application/vnd.schemaregistry.v1+json"
SUBJECT = "/registry/subjects/{subject}"
VERSIONS = f"{SUBJECT}/versions"
VERSION = f"{VERSIONS}/{{version}}"


def at(path):
    return path.format(subject="invoice.sent", version="1", id="1")


def draft(schema):
    return json.dumps({"schema": json.dumps(schema)}).encode()


numbers = check(200, VERSIONS, at(VERSIONS), draft("int"), content_type=REGISTRY)
check(409, VERSIONS, at(VERSIONS), draft("string"), content_type=REGISTRY)
check(422, VERSIONS, at(VERSIONS), draft("nothing"), content_type=REGISTRY)
check(400, VERSIONS, at(VERSIONS), b"{", content_type=REGISTRY)
check(415, VERSIONS, at(VERSIONS), draft("int"), content_type="text/plain")
check(413, VERSIONS, at(VERSIONS), b" " * 600_000, content_type=REGISTRY)
assert check(200, SUBJECT, at(SUBJECT), draft("int"), content_type=REGISTRY)["id"] == numbers["id"]
assert check(200, VERSION, at(VERSION))["version"] == numbers["version"]
check(404, VERSIONS, "/registry/subjects/none/versions")
check(200, "/registry/schemas/ids/{id}", at("/registry/schemas/ids/{id}"))
check(404, "/registry/schemas/ids/{id}", "/registry/schemas/ids/4711")
compatible = "/registry/compatibility/subjects/{subject}/versions"
told = check(200, compatible, f"{at(compatible)}?verbose=true", draft("string"), content_type=REGISTRY)
assert told["messages"], told
check(200, "/registry/config")
check(200, "/registry/config", body=b'{"compatibility":"NONE"}', method="PUT", content_type=REGISTRY)
check(422, "/registry/mode", body=b'{"mode":"IMPORT"}', method="PUT", content_type=REGISTRY)
assert check(200, VERSION, at(VERSION), method="DELETE") == 1
check(404, VERSION, at(VERSION), method="DELETE")
check(200, "/registry/subjects")
check(200, "/")
check(200, "/docs")
check(200, "/openapi.json")
print("every answer is as described")
