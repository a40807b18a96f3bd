package identity

import (
	"crypto"
	"crypto/sha256"
	"sync"
	"time"
)

// maxVerified bounds the tokens of each of two generations.
const maxVerified = 4096

// verified remembers tokens that were found to be good, by their hashes: to verify one takes as long as all else that is
// done for a small request. It is safe for concurrent use.
type verified struct {
	lock       sync.Mutex
	fresh, old map[[sha256.Size]byte]goodToken
}

// goodToken is what a token said, for as long as the key is good that signed it.
type goodToken struct {
	claimed
	end           time.Time
	id, algorithm string
	key           crypto.PublicKey
}

// find returns a token that is still good.
func (v *verified) find(token Secret, now time.Time, keys TokenKeys) (claimed, bool) {
	hash := sha256.Sum256([]byte(token.Reveal()))
	v.lock.Lock()
	good, known := v.fresh[hash]
	if !known {
		if good, known = v.old[hash]; known {
			v.add(hash, good)
		}
	}
	v.lock.Unlock()
	if !known || !now.Before(good.end) {
		return claimed{}, false
	}
	key, isKey := keys.Key(good.id, good.algorithm)
	same, comparable := key.(interface{ Equal(crypto.PublicKey) bool })
	if !isKey || !comparable || !same.Equal(good.key) {
		return claimed{}, false
	}
	return good.claimed, true
}

// remember keeps a token that is good.
func (v *verified) remember(token Secret, good goodToken) {
	hash := sha256.Sum256([]byte(token.Reveal()))
	v.lock.Lock()
	defer v.lock.Unlock()
	v.add(hash, good)
}

// add makes room by forgetting what was not asked for in a whole generation. The lock is held.
func (v *verified) add(hash [sha256.Size]byte, good goodToken) {
	if v.fresh == nil || len(v.fresh) >= maxVerified {
		v.old, v.fresh = v.fresh, map[[sha256.Size]byte]goodToken{}
	}
	v.fresh[hash] = good
}
