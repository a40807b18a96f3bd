package server

import (
	"net/http"
	"regexp"

	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/webhook"
)

const (
	webhooksRoute   = "/v1/webhook_endpoints"
	eventTypesRoute = "/v1/webhook_event_types"
)

// What ids look like: no other text reaches the database.
var (
	webhookID  = regexp.MustCompile(`^wh_[0-9a-f]{32}$`)
	deliveryID = regexp.MustCompile(`^msg_[0-9a-f]{32}$`)
)

// createWebhook serves POST /v1/webhook_endpoints.
func (s *Server) createWebhook(ex *exchange) error {
	asked, err := decoded(ex, s.Decoder.Webhook)
	if err != nil {
		return err
	}
	return createFromJSON(ex, http.StatusOK, renderedWebhook, func(answering store.Answering[store.Webhook]) (store.Webhook, error) {
		return s.Webhooks.Create(ex.request.Context(), ex.principal.Tenant, asked, answering)
	})
}

func renderedWebhook(hook store.Webhook) (created, error) {
	body, err := openai.RenderNewSecret(hook)
	return created{id: hook.ID, body: body}, err
}

// listWebhooks serves GET /v1/webhook_endpoints.
func (s *Server) listWebhooks(ex *exchange) error {
	after, most, err := ex.page(webhookID, "webhook")
	if err != nil {
		return err
	}
	list, more, err := s.Webhooks.Page(ex.request.Context(), ex.principal.Tenant, after, most)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderWebhooks(list, more))
}

// listEventTypes serves GET /v1/webhook_event_types.
func (s *Server) listEventTypes(ex *exchange) error { return ex.replyWith(openai.RenderEventTypes()) }

// getWebhook serves GET /v1/webhook_endpoints/{id}.
func (s *Server) getWebhook(ex *exchange) error {
	id, err := ex.webhookID()
	if err != nil {
		return err
	}
	found, err := s.Webhooks.Find(ex.request.Context(), ex.principal.Tenant, id)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderWebhook(found))
}

// changeWebhook serves POST /v1/webhook_endpoints/{id}.
func (s *Server) changeWebhook(ex *exchange) error {
	id, err := ex.webhookID()
	if err != nil {
		return err
	}
	asked, err := decoded(ex, s.Decoder.WebhookChange)
	if err != nil {
		return err
	}
	changed, err := s.Webhooks.Change(ex.request.Context(), ex.principal.Tenant, id, asked)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderWebhook(changed))
}

// rotateWebhook serves POST /v1/webhook_endpoints/{id}/rotate_secret.
func (s *Server) rotateWebhook(ex *exchange) error {
	id, err := ex.webhookID()
	if err != nil {
		return err
	}
	overlap, err := decoded(ex, s.Decoder.WebhookRotation)
	if err != nil {
		return err
	}
	return createFromJSON(ex, http.StatusOK, renderedWebhook, func(answering store.Answering[store.Webhook]) (store.Webhook, error) {
		return s.Webhooks.Rotate(ex.request.Context(), ex.principal.Tenant, id, overlap, answering)
	})
}

// testWebhook serves POST /v1/webhook_endpoints/{id}/test.
func (s *Server) testWebhook(ex *exchange) error {
	id, err := ex.webhookID()
	if err != nil {
		return err
	}
	kind, err := decoded(ex, s.Decoder.WebhookTest)
	if err != nil {
		return err
	}
	status, err := s.Webhooks.Test(ex.request.Context(), ex.principal.Tenant, id, kind)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderWebhookTest(id, kind, status))
}

// deleteWebhook serves DELETE /v1/webhook_endpoints/{id}.
func (s *Server) deleteWebhook(ex *exchange) error {
	id, err := ex.webhookID()
	if err != nil {
		return err
	}
	if err := s.Webhooks.Delete(ex.request.Context(), ex.principal.Tenant, id); err != nil {
		return err
	}
	return ex.replyWith(openai.RenderDeletedWebhook(id))
}

// listDeliveries serves GET /v1/webhook_endpoints/{id}/deliveries.
func (s *Server) listDeliveries(ex *exchange) error {
	id, err := ex.webhookID()
	if err != nil {
		return err
	}
	after, most, err := ex.page(deliveryID, "delivery")
	if err != nil {
		return err
	}
	list, more, err := s.Webhooks.Deliveries(ex.request.Context(), ex.principal.Tenant, id, after, most)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderDeliveries(list, more))
}

// replayDelivery serves POST /v1/webhook_endpoints/{id}/deliveries/{delivery}/replay.
func (s *Server) replayDelivery(ex *exchange) error {
	id, err := ex.webhookID()
	if err != nil {
		return err
	}
	delivery, err := ex.pathID("delivery", deliveryID, webhook.DeliveryNotFound)
	if err != nil {
		return err
	}
	replayed, err := s.Webhooks.Replay(ex.request.Context(), ex.principal.Tenant, id, delivery)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderDelivery(replayed))
}

// webhookID is the id in the path.
func (ex *exchange) webhookID() (string, error) { return ex.pathID("id", webhookID, webhook.NotFound) }
