package adminapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
)

// CreateKey makes a key of a tenant, which has no end, and is restricted to scopes if there are any. Asked again with the same
// once, it makes none, and returns that of before without its Key, which is shown a single time.
func (c *Client) CreateKey(ctx context.Context, once, tenant string, scopes []string) (Key, error) {
	return c.act(ctx, KeysPath, once, map[string]any{"tenant": tenant, "scopes": list(scopes)})
}

// RotateKey makes a key in the place of another one, which ends after the overlap, in whole seconds. once is as with CreateKey.
func (c *Client) RotateKey(ctx context.Context, once, id string, overlap time.Duration, scopes []string) (Key, error) {
	return c.act(ctx, keyPath(id)+"/rotate", once, map[string]any{"overlap_seconds": int64(overlap / time.Second), "scopes": list(scopes)})
}

// RevokeKey ends a key. To end it again changes nothing.
func (c *Client) RevokeKey(ctx context.Context, id string) (Key, error) {
	return c.act(ctx, keyPath(id)+"/revoke", "", nil)
}

// FindKey returns what there is to know of a key.
func (c *Client) FindKey(ctx context.Context, id string) (Key, error) {
	reply, err := c.get(ctx, keyPath(id), nil)
	if err != nil {
		return Key{}, err
	}
	return read(reply)
}

func (c *Client) act(ctx context.Context, path, once string, asked map[string]any) (Key, error) {
	var body []byte
	if asked != nil {
		var err error
		if body, err = json.Marshal(asked, json.Deterministic(true)); err != nil {
			return Key{}, err
		}
	}
	reply, err := c.ask(ctx, http.MethodPost, path, nil, body, once)
	if err != nil {
		return Key{}, err
	}
	return read(reply)
}

// read reads a key. Its errors quote nothing: it may be there as it is.
func read(reply []byte) (key Key, err error) {
	if json.Unmarshal(reply, &key) != nil || key.ID == "" {
		return Key{}, fmt.Errorf("a reply of the admin API is no key")
	}
	return key, nil
}

// keyPath is that of one key, whatever letters its id has: none leads elsewhere.
func keyPath(id string) string { return KeysPath + "/" + url.PathEscape(id) }

// list is never null, which is no list.
func list(scopes []string) []string {
	if scopes == nil {
		return []string{}
	}
	return scopes
}
