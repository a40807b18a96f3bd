// Package testkit holds what tests of several packages share: a hot path that is a fake, a log, and the repository's
// tables.
//
// Nothing but tests may use it.
package testkit
