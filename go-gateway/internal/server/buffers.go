package server

import "sync"

// largestPooled keeps one huge reply from holding its memory for ever.
const largestPooled = 1 << 20 // bytes

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
	if cap(buffer) <= largestPooled {
		p.pool.Put(&buffer)
	}
}
