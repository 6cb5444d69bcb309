"""Posts events with the CloudEvents SDK for Python, and reads them back with it.

    python post.py http://127.0.0.1:8080
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http

BASE = sys.argv[1]


def post(headers, body):
    headers = {name: str(value) for name, value in headers.items()}
    request = urllib.request.Request(f"{BASE}/v1/events", data=body or b"", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 202, answer.read()
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from error


def stored(source, id_):
    query = urllib.parse.urlencode({"source": source, "id": id_})
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{BASE}/v1/event?{query}") as answer:
                return from_http({"content-type": "application/cloudevents+json"}, answer.read())
        except urllib.error.HTTPError as error:
            assert error.code == 404, error.read()
            time.sleep(0.1)
    raise AssertionError(f"{source} {id_} is not to be read")


def plain(event):
    """The attributes, and the data with texts as bytes."""
    data = event.get_data()
    return dict(event.get_attributes()), data.encode() if isinstance(data, str) else data


def event(id_, content_type, data):
    attributes = {
        "id": id_,
        "source": "urn:example:py?=q",
        "type": "com.example.py",
        "subject": "plain subject",
        "time": "2026-02-03T04:05:06.789+01:00",
        "dataschema": "https://example.com/schema#part",
        "tenant": "seven",
    }
    if content_type:
        attributes["datacontenttype"] = content_type
    return CloudEvent(attributes, data)


KINDS = [
    ("json", "application/json", {"n": 1.5, "s": "ä", "list": [None, True]}),
    ("text", "text/plain", "grüße"),
    ("bytes", "application/octet-stream", bytes([0, 255, 128])),
]


def marshal(data):
    """As the media type asks: JSON is written as such, texts and bytes are themselves."""
    return data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else json.dumps(data).encode()


for mode in ("structured", "binary"):
    for name, content_type, data in KINDS:
        sent = event(f"{mode}-{name}", content_type, data)
        if mode == "binary":
            headers, body = to_binary(sent, data_marshaller=marshal)
        else:
            headers, body = to_structured(sent, data_marshaller=lambda data: data)
        post(headers, body)
        read = stored(sent["source"], sent["id"])
        assert plain(read) == plain(sent), f"{plain(read)}\n{plain(sent)}"

batch = [event(f"batch-{name}", content_type, data) for name, content_type, data in KINDS]
bodies = [to_structured(sent, data_marshaller=lambda data: data)[1] for sent in batch]
told = post({"content-type": "application/cloudevents-batch+json"}, b"[" + b",".join(bodies) + b"]")
assert told["accepted"] == len(batch), told
for sent in batch:
    read = stored(sent["source"], sent["id"])
    assert plain(read) == plain(sent), f"{plain(read)}\n{plain(sent)}"
print(f"{3 * len(KINDS)} events came back as they were sent")
