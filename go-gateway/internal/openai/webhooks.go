package openai

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/strictjson"
	"triptych.dev/gateway/internal/webhook"
)

const maxWebhookName = 256 // characters

// Webhook reads the body of POST /v1/webhook_endpoints. Errors are *fault.Fault.
func (d *Decoder) Webhook(body []byte, ignored *strictjson.Names) (webhook.Asked, error) {
	asked, err := d.WebhookChange(body, ignored)
	switch {
	case err != nil:
		return webhook.Asked{}, err
	case asked.Name == nil:
		return webhook.Asked{}, strictjson.Missing("name")
	case asked.URL == nil:
		return webhook.Asked{}, strictjson.Missing("url")
	case asked.Events == nil:
		return webhook.Asked{}, strictjson.Missing("event_types")
	}
	return asked, nil
}

// WebhookChange reads the body of POST /v1/webhook_endpoints/{id}: what is absent stays as it is.
func (d *Decoder) WebhookChange(body []byte, ignored *strictjson.Names) (webhook.Asked, error) {
	var asked webhook.Asked
	var enabled bool
	err := strictjson.Decode(body, strictjson.Fields{
		"name": strictjson.String(&asked.Name), "url": strictjson.String(&asked.URL), "event_types": eventTypes(&asked.Events),
		"enabled": func(decoder *strictjson.Decoder, name string) error {
			asked.Enabled = &enabled
			return strictjson.Bool(&enabled)(decoder, name)
		},
	}, ignored)
	if err != nil {
		return webhook.Asked{}, err
	}
	if asked.Name != nil && (*asked.Name == "" || utf8.RuneCountInString(*asked.Name) > maxWebhookName) {
		return webhook.Asked{}, fault.InField(fault.InvalidValue, "name", "name must have from 1 to %d characters.", maxWebhookName)
	}
	return asked, nil
}

// eventTypes reads a list of types, each one that there is, once.
func eventTypes(destination *[]string) strictjson.Field {
	return func(decoder *strictjson.Decoder, name string) error {
		var types []string
		err := strictjson.List(decoder, name, "a list of types of events", len(store.EventTypes), func(i int) error {
			kind, err := strictjson.ReadString(decoder, name, "a type of events", i)
			if err == nil {
				err = checkEventType(strictjson.Element(name, i), kind)
			}
			if err == nil && slices.Contains(types, kind) {
				err = fault.InField(fault.InvalidValue, strictjson.Element(name, i), "%s names %q twice.", name, kind)
			}
			types = append(types, kind)
			return err
		})
		if err == nil && len(types) == 0 {
			err = fault.InField(fault.InvalidValue, name, "%s must name at least one type of events.", name)
		}
		*destination = types
		return err
	}
}

func checkEventType(param, kind string) error {
	if !slices.Contains(store.EventTypes, kind) {
		return fault.InField(fault.InvalidValue, param, "%s must be one of %s, not %.64q.", param, fault.Listed(store.EventTypes, 0), kind)
	}
	return nil
}

// WebhookRotation reads the body of POST /v1/webhook_endpoints/{id}/rotate_secret, which may be empty, and returns for how
// long the secret before signs too.
func (d *Decoder) WebhookRotation(body []byte, ignored *strictjson.Names) (time.Duration, error) {
	overlap := webhook.DefaultOverlap
	if len(body) == 0 {
		return overlap, nil
	}
	keep, said := false, ""
	twice := func(name string) error {
		if said != "" {
			return fault.InField(fault.InvalidValue, name, "%s and %s say the same: give one of them.", said, name)
		}
		said = name
		return nil
	}
	err := strictjson.Decode(body, strictjson.Fields{
		"keep_old_secret_active_for_24_hours": func(decoder *strictjson.Decoder, name string) error {
			if err := strictjson.Bool(&keep)(decoder, name); err != nil {
				return err
			}
			if !keep {
				overlap = 0
			}
			return twice(name)
		},
		"overlap_seconds": func(decoder *strictjson.Decoder, name string) error {
			most := int64(webhook.MaxOverlap / time.Second)
			expected := fmt.Sprintf("a whole number from 0 to %d", most)
			token, err := strictjson.ReadKind(decoder, jsontext.KindNumber, name, expected)
			if err != nil {
				return err
			}
			var seconds int64
			if err := json.Unmarshal([]byte(token.String()), &seconds); err != nil || seconds < 0 || seconds > most {
				return fault.InField(fault.InvalidValue, name, "%s must be %s, not %.64s.", name, expected, token.String())
			}
			overlap = time.Duration(seconds) * time.Second
			return twice(name)
		},
	}, ignored)
	return overlap, err
}

// WebhookTest reads the body of POST /v1/webhook_endpoints/{id}/test, and returns the type of events.
func (d *Decoder) WebhookTest(body []byte, ignored *strictjson.Names) (string, error) {
	var kind *string
	err := strictjson.Decode(body, strictjson.Fields{"event_type": strictjson.String(&kind)}, ignored)
	if err != nil {
		return "", err
	}
	if kind == nil {
		return "", strictjson.Missing("event_type")
	}
	return *kind, checkEventType("event_type", *kind)
}

// webhookEndpoint is OpenAI's, and what it has here beside that.
type webhookEndpoint struct {
	ID                string   `json:"id"`
	Object            string   `json:"object"`
	CreatedAt         int64    `json:"created_at"` // Unix seconds, as all of these
	UpdatedAt         int64    `json:"updated_at"`
	Name              string   `json:"name"`
	URL               string   `json:"url"`
	EventTypes        []string `json:"event_types"`
	SigningSecret     string   `json:"signing_secret,omitempty"` // in the reply that makes it alone
	SigningSecretHint string   `json:"signing_secret_hint"`
	OldSecretUntil    *int64   `json:"old_secret_until"` // null: no other secret signs
	Enabled           bool     `json:"enabled"`
	DisabledFor       *string  `json:"disabled_for"` // null: its tenant has, or it is enabled
}

func webhookOf(stored store.Webhook) webhookEndpoint {
	return webhookEndpoint{
		ID: stored.ID, Object: "webhook_endpoint", CreatedAt: stored.Created.Unix(), UpdatedAt: stored.Updated.Unix(), Name: stored.Name, URL: stored.URL,
		EventTypes: stored.Events, SigningSecretHint: webhook.Hint(stored.Secret), OldSecretUntil: unixSeconds(stored.OldUntil),
		Enabled: stored.Enabled, DisabledFor: orNull(stored.DisabledFor),
	}
}

// RenderWebhook returns the reply about one webhook.
func RenderWebhook(stored store.Webhook) ([]byte, error) { return json.Marshal(webhookOf(stored)) }

// RenderNewSecret is RenderWebhook with the secret, which is shown this once.
func RenderNewSecret(stored store.Webhook) ([]byte, error) {
	object := webhookOf(stored)
	object.SigningSecret = stored.Secret
	return json.Marshal(object)
}

// RenderWebhooks returns the reply to GET /v1/webhook_endpoints.
func RenderWebhooks(stored []store.Webhook, more bool) ([]byte, error) {
	return renderPage(stored, more, func(one store.Webhook) (string, webhookEndpoint) { return one.ID, webhookOf(one) })
}

// RenderDeletedWebhook returns the reply to DELETE /v1/webhook_endpoints/{id}.
func RenderDeletedWebhook(id string) ([]byte, error) {
	return json.Marshal(deletedFile{ID: id, Object: "webhook_endpoint.deleted", Deleted: true})
}

// RenderEventTypes returns the reply to GET /v1/webhook_event_types.
func RenderEventTypes() ([]byte, error) {
	return json.Marshal(struct {
		Object string   `json:"object"`
		Data   []string `json:"data"`
	}{"list", store.EventTypes})
}

// RenderWebhookTest returns the reply to POST /v1/webhook_endpoints/{id}/test.
func RenderWebhookTest(id, kind string, status int) ([]byte, error) {
	return json.Marshal(struct {
		Object     string `json:"object"`
		WebhookID  string `json:"webhook_endpoint_id"`
		EventType  string `json:"event_type"`
		StatusCode int    `json:"status_code"`
		Success    bool   `json:"success"` // of the attempt, not of the receiver
	}{"webhook_endpoint.test", id, kind, status, true})
}

// delivery is an entry of a webhook's log.
type delivery struct {
	ID             string  `json:"id"` // the header webhook-id
	Object         string  `json:"object"`
	WebhookID      string  `json:"webhook_endpoint_id"`
	EventID        string  `json:"event_id"`
	EventType      string  `json:"event_type"`
	DataID         string  `json:"data_id"`
	State          string  `json:"state"`
	Attempts       int     `json:"attempts"`
	LastStatusCode *int    `json:"last_status_code"` // null: there was no reply
	LastError      *string `json:"last_error"`
	CreatedAt      int64   `json:"created_at"` // Unix seconds, as all of these; null until it happens
	LastAttemptAt  *int64  `json:"last_attempt_at"`
	NextAttemptAt  *int64  `json:"next_attempt_at"`
	EndedAt        *int64  `json:"ended_at"`
}

func deliveryOf(stored store.Delivery) delivery {
	object := delivery{
		ID: stored.ID, Object: "webhook_endpoint.delivery", WebhookID: stored.Webhook, EventID: stored.Event, EventType: stored.Type, DataID: stored.Object,
		State: stored.State, Attempts: stored.Attempts, LastError: orNull(stored.Error), CreatedAt: stored.At.Unix(),
		LastAttemptAt: unixSeconds(stored.Tried), NextAttemptAt: unixSeconds(stored.Next), EndedAt: unixSeconds(stored.Ended),
	}
	if stored.Status != 0 {
		object.LastStatusCode = &stored.Status
	}
	return object
}

// RenderDelivery returns the reply about one delivery.
func RenderDelivery(stored store.Delivery) ([]byte, error) { return json.Marshal(deliveryOf(stored)) }

// RenderDeliveries returns the reply to GET /v1/webhook_endpoints/{id}/deliveries.
func RenderDeliveries(stored []store.Delivery, more bool) ([]byte, error) {
	return renderPage(stored, more, func(one store.Delivery) (string, delivery) { return one.ID, deliveryOf(one) })
}
