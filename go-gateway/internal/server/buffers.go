package server

import "sync"

// maxPooledBytes keeps one huge reply from holding its memory for ever.
const maxPooledBytes = 1 << 20 // bytes

// bufferPool reuses the memory of replies.
type bufferPool struct{ pool sync.Pool }

// get returns an empty buffer.
func (p *bufferPool) get() []byte {
	if buffer, ok := p.pool.Get().(*[]byte); ok {
		return (*buffer)[:0]
	}
	return nil
}

// put takes a buffer that nobody uses any more.
func (p *bufferPool) put(buffer []byte) {
	if cap(buffer) <= maxPooledBytes {
		p.pool.Put(&buffer)
	}
}
