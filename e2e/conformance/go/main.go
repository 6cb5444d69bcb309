// Posts events with the CloudEvents SDK for Go, and reads them back with it.
//
//	go run . http://127.0.0.1:8080
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

var web = &http.Client{Timeout: 20 * time.Second}

// A kind of data, and what the SDK is given for it.
type kind struct {
	name, contentType string
	data              any
}

var kinds = []kind{
	{"json", cloudevents.ApplicationJSON, map[string]any{"n": 1.5, "s": "ä", "list": []any{nil, true}}},
	{"text", cloudevents.TextPlain, "grüße"},
	{"bytes", "application/octet-stream", []byte{0, 255, 128}},
}

func event(id string, of kind) cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetID(id)
	e.SetSource("urn:example:go?=q")
	e.SetType("com.example.go")
	e.SetSubject("plain subject")
	e.SetTime(time.Date(2026, 2, 3, 4, 5, 6, 789000000, time.FixedZone("", 3600)))
	e.SetDataSchema("https://example.com/schema#part")
	e.SetExtension("tenant", "seven")
	data := of.data
	if text, is := data.(string); is {
		data = []byte(text)
	}
	must(e.SetData(of.contentType, data))
	return e
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// The event as the server has it, once it has.
func stored(base string, sent cloudevents.Event) cloudevents.Event {
	query := url.Values{"source": {sent.Source()}, "id": {sent.ID()}}
	for try := 0; try < 300; try++ {
		answer, err := web.Get(base + "/v1/event?" + query.Encode())
		must(err)
		body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		must(err)
		must(answer.Body.Close())
		if answer.StatusCode == http.StatusOK {
			var read cloudevents.Event
			must(json.Unmarshal(body, &read))
			return read
		}
		if answer.StatusCode != http.StatusNotFound {
			log.Fatalf("%s: %s", answer.Status, body)
		}
		time.Sleep(100 * time.Millisecond)
	}
	log.Fatalf("%s is not to be read", sent.ID())
	return sent
}

// What must be the same, with JSON as the value that it is.
func plain(e cloudevents.Event) map[string]any {
	var data any = string(e.Data())
	if e.DataContentType() == cloudevents.ApplicationJSON {
		must(json.Unmarshal(e.Data(), &data))
	}
	return map[string]any{
		"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type(),
		"subject": e.Subject(), "time": e.Time().UTC(), "dataschema": e.DataSchema(),
		"datacontenttype": e.DataContentType(), "extensions": e.Extensions(), "data": data,
	}
}

func same(base string, sent cloudevents.Event) {
	if want, found := plain(sent), plain(stored(base, sent)); !reflect.DeepEqual(want, found) {
		log.Fatalf("sent %v\nread %v", want, found)
	}
}

func main() {
	base := os.Args[1]
	client, err := cloudevents.NewClientHTTP(
		cloudevents.WithTarget(base+"/v1/events"), cehttp.WithClient(*web))
	must(err)
	modes := map[string]func(context.Context) context.Context{
		"structured": binding.WithForceStructured,
		"binary":     binding.WithForceBinary,
	}
	count := 0
	for mode, in := range modes {
		for _, of := range kinds {
			sent := event(mode+"-"+of.name, of)
			if result := client.Send(in(context.Background()), sent); !cloudevents.IsACK(result) {
				log.Fatalf("%s %s: %v", mode, of.name, result)
			}
			same(base, sent)
			count++
		}
	}

	var batch []cloudevents.Event
	for _, of := range kinds {
		batch = append(batch, event("batch-"+of.name, of))
	}
	request, err := cehttp.NewHTTPRequestFromEvents(context.Background(), base+"/v1/events", batch)
	must(err)
	answer, err := web.Do(request)
	must(err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		log.Fatal(answer.Status)
	}
	for _, sent := range batch {
		same(base, sent)
		count++
	}
	fmt.Printf("%d events came back as they were sent\n", count)
}
