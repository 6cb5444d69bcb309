#!/usr/bin/env python3
"""Posts numbered orders and reads them back, for test.sh. Standard library only.

    traffic.py post URL FIRST LAST      in batches of 50, about 20 batches a second; retries as HTTP.md says
    traffic.py until URL FILE           numbers from 0 until FILE appears, then prints how many
    traffic.py read URL COUNT           waits until numbers 0..COUNT-1 are there, each once
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

DEADLINE = 60  # seconds that a batch, or a read of everything, may take


def request(url, body=None):
    headers = {"Content-Type": "application/x-ndjson"} if body else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=40) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read()[:300]
    except OSError as error:
        return 0, error


def post(url, first, last):
    """Returns how many tries were not answered with 202; the batch is durable in any case."""
    event = '{{"specversion":"1.0","id":"{0}","source":"/test","type":"order.placed","subject":"{0}",' \
            '"time":"2026-11-01T00:00:00Z","data":{{"country":"ch","amount":{1}}}}}\n'
    body = "".join(event.format(n, n + 1) for n in range(first, last)).encode()
    until, failed = time.monotonic() + DEADLINE, 0
    while True:
        status, answer = request(url + "/v1/events", body)
        if status == 202:
            return failed
        failed += 1
        print(f"POST was answered with {status}: {answer}", file=sys.stderr)
        if status not in (0, 429, 502, 503, 504) or time.monotonic() > until:
            sys.exit("which will not get better, or has lasted too long")
        time.sleep(0.3)


def many(url, first, last, more=lambda: True):
    number = failed = 0
    for number in range(first, last, 50):
        if not more():
            last = number
            break
        failed += post(url, number, min(number + 50, last))
        time.sleep(0.05)
    return last, failed


def pages(url):
    query, cursor = "/v1/events?" + urllib.parse.urlencode({"type": "order.placed", "limit": 1000}), None
    while True:
        status, page = request(url + query + (f"&cursor={urllib.parse.quote(cursor)}" if cursor else ""))
        if status != 200:
            raise OSError(f"GET was answered with {status}: {page}")
        yield from page["events"]
        cursor = page.get("next")
        if not cursor:
            return


def read(url, count):
    until, problem = time.monotonic() + DEADLINE, ""
    while time.monotonic() < until:
        try:
            events = list(pages(url))
            ids = [int(event["id"]) for event in events]
            if len(ids) != len(set(ids)):
                sys.exit(f"{len(ids) - len(set(ids))} events are there twice")
            if any(event["data"]["country"] != "CH" for event in events):
                sys.exit("an event was not transformed")
            if set(ids) == set(range(count)):
                return rollup(url, count)
            problem = f"{len(ids)} of {count} are there"
        except (OSError, ValueError) as error:
            problem = str(error)
        time.sleep(0.5)
    sys.exit(problem)


def rollup(url, count):
    """Raises OSError while the rollup is behind the lists, which a flush writes at the same time."""
    status, page = request(url + "/v1/rollups/revenue?window=1d")
    if status != 200:
        raise OSError(f"the rollup was answered with {status}: {page}")
    counted = sum(row["count"] for row in page["rows"])
    total = sum(row["amount_sum"] for row in page["rows"])
    if counted < count:
        raise OSError(f"the rollup counts {counted} of {count}")
    if (counted, total) != (count, count * (count + 1) / 2):
        sys.exit(f"the rollup counts {counted} and sums {total}")


def main():
    match sys.argv[1:]:
        case ["post", url, first, last]:
            _, failed = many(url, int(first), int(last))
            print(failed)
        case ["until", url, file]:
            last, failed = many(url, 0, 10**7, lambda: not os.path.exists(file))
            print(last, failed)
        case ["read", url, count]:
            read(url, int(count))
        case _:
            sys.exit(__doc__)


main()
