package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

const maxURLBytes = 2048

// special are networks inside of what is otherwise public that no receiver is in, by the registries of IANA; and an address
// by which a cloud's machines reach what manages them.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

// public is what IPv6 has of public addresses. Mapped, translated (NAT64), local and multicast ones are all outside of it.
var public = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// Guard says where webhooks may lead: to public addresses, by https; and into the operator's own networks where those are
// allowed, also by http. It looks at the address that is about to be dialed, after its name was resolved.
type Guard struct{ Allowed []netip.Prefix }

// errInward means that an address is not one that webhooks may lead to.
var errInward = errors.New("the address is not public")

// errPlain means that an address is dialed without TLS outside of the operator's own networks.
var errPlain = errors.New("the address is outside of the networks that http is for")

func (g *Guard) own(address netip.Addr) bool {
	for _, network := range g.Allowed {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

// check refuses an address.
func (g *Guard) check(address netip.Addr, plain bool) error {
	address = address.Unmap()
	switch {
	case address.Zone() != "":
		return errInward
	case g.own(address):
		return nil
	case plain:
		return errPlain
	case address.Is6() && !public.Contains(address):
		return errInward
	}
	for _, network := range special {
		if network.Contains(address) {
			return errInward
		}
	}
	return nil
}

// control is a net.Dialer's, of connections with or without TLS.
func (g *Guard) control(plain bool) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		dialed, err := netip.ParseAddrPort(address)
		if err != nil {
			return errInward
		}
		return g.check(dialed.Addr(), plain)
	}
}

// CheckURL refuses what no delivery would be sent to, as far as that can be known without a name server. Its errors are a
// predicate of the URL.
func (g *Guard) CheckURL(text string) error {
	if len(text) > maxURLBytes {
		return fmt.Errorf("has more than %d bytes", maxURLBytes)
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Opaque != "" || parsed.Host == "" {
		return errors.New("must be as https://host/path")
	}
	switch {
	case parsed.Scheme == "http" && len(g.Allowed) == 0, parsed.Scheme != "http" && parsed.Scheme != "https":
		return errors.New("must begin with https://")
	case parsed.User != nil:
		return errors.New("must not have a user or a password")
	case parsed.Fragment != "" || strings.Contains(text, "#"):
		return errors.New("must not have a fragment")
	}
	if port := parsed.Port(); port != "" || strings.HasSuffix(parsed.Host, ":") {
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			return errors.New("has a port that is none from 1 to 65535")
		}
	}
	return g.checkHost(parsed.Hostname(), parsed.Scheme == "http")
}

func (g *Guard) checkHost(host string, plain bool) error {
	address, err := netip.ParseAddr(host)
	if err == nil {
		if err := g.check(address, plain); err != nil {
			return errors.New("leads to an address that is not public, which this gateway's setting webhook-allow-networks does not allow")
		}
		return nil
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if len(name) > 253 || !isName(name) {
		return errors.New("has a host that is neither an address nor a name; names beyond ASCII are written as xn--…")
	}
	// Some resolvers take 2130706433, 0x7f.1 and 127.1 for addresses; here an address has one form.
	if last := name[strings.LastIndexByte(name, '.')+1:]; last[0] >= '0' && last[0] <= '9' {
		return errors.New("has a host whose last part begins with a digit, and that is no address")
	}
	if (name == "localhost" || strings.HasSuffix(name, ".localhost")) && len(g.Allowed) == 0 {
		return errors.New("leads to this machine")
	}
	return nil
}

// isName reports whether a host is made of labels of letters, digits, hyphens and underscores.
func isName(host string) bool {
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// dialer connects to what the guard lets through.
func (g *Guard) dialer(resolver *net.Resolver, plain bool) *net.Dialer {
	return &net.Dialer{Control: g.control(plain), Resolver: resolver}
}
