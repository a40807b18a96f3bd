package config

import (
	"fmt"
	"net"
	"strings"
)

// HotpathName returns the host and port of an address that is a name of several hot paths, "dns:///name:port" or
// "dns:name:port"; nothing for the address of one, "host:port" or "unix:path". Its error is for whoever wrote the address.
func HotpathName(address string) (host, port string, err error) {
	if path, isSocket := strings.CutPrefix(address, "unix:"); isSocket {
		if path == "" {
			err = fmt.Errorf("%q must name a path", address)
		}
		return "", "", err
	}
	rest, isName := strings.CutPrefix(address, "dns:")
	if !isName {
		return "", "", checkAddress(address)
	}
	rest = strings.TrimPrefix(rest, "///")
	host, port, err = net.SplitHostPort(rest)
	if err != nil || host == "" || strings.Contains(host, "/") || checkAddress(rest) != nil { // a resolver of its own is not taken
		return "", "", fmt.Errorf("%q must be dns:///name:port", address)
	}
	return host, port, nil
}

func checkHotpathAddress(address string) error {
	_, _, err := HotpathName(address)
	return err
}
