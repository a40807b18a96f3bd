// Package openai is the only one that knows OpenAI's JSON: it decodes requests into the contract's messages, and
// renders replies and errors.
//
// It works on bytes and messages. It must not depend on connections, tenants or the hot path's client.
package openai
