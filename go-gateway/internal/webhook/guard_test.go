package webhook

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

var loopback = Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}

func TestAddressesThatAreNotPublicAreRefused(t *testing.T) {
	for _, address := range []string{
		"0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8",
		"192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"168.63.129.16",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "64:ff9b::808:808",
		"64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1",
		"fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1",
	} {
		if err := (&Guard{}).check(netip.MustParseAddr(address), false); err == nil {
			t.Errorf("%s is let through", address)
		}
	}
	for _, address := range []string{"1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450::1"} {
		if err := (&Guard{}).check(netip.MustParseAddr(address), false); err != nil {
			t.Errorf("%s is refused: %v", address, err)
		}
		if err := loopback.check(netip.MustParseAddr(address), true); err == nil {
			t.Errorf("http leads to %s", address)
		}
	}
	for address, own := range map[string]bool{"127.0.0.1": true, "::ffff:127.0.0.1": true, "::1": true, "10.0.0.1": false, "::2": false} {
		if err := loopback.check(netip.MustParseAddr(address), true); (err == nil) != own {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestURLs(t *testing.T) {
	for _, text := range []string{
		"https://receiver.example", "https://receiver.example/hook?token=1", "https://receiver.example:8443/a", "https://1.1.1.1/", "https://[2606:4700::1]:1/",
		"https://xn--bcher-kva.example/", "https://a_b.example./", "HTTPS://RECEIVER.example/",
	} {
		if err := (&Guard{}).CheckURL(text); err != nil {
			t.Errorf("%s %v", text, err)
		}
	}
	for text, says := range map[string]string{
		"":                                "https://host/path",
		"receiver.example":                "https://host/path",
		"https:receiver.example":          "https://host/path",
		"https:///path":                   "https://host/path",
		"http://receiver.example/":        "https://",
		"ftp://receiver.example/":         "https://",
		"https://user@receiver.example/":  "user",
		"https://:x@receiver.example/":    "user",
		"https://receiver.example/#a":     "fragment",
		"https://receiver.example/#":      "fragment",
		"https://receiver.example:0/":     "port",
		"https://receiver.example:99999/": "port",
		"https://receiver.example:/":      "port",
		"https://127.0.0.1/":              "not public",
		"https://127.0.0.1./":             "last part",
		"https://[::1]/":                  "not public",
		"https://[::ffff:10.0.0.1]/":      "not public",
		"https://[fe80::1%25eth0]/":       "not public",
		"https://2130706433/":             "last part",
		"https://0x7f.1/":                 "last part",
		"https://127.1/":                  "last part",
		"https://0177.0.0.1/":             "last part",
		"https://a.0x7f/":                 "last part",
		"https://localhost/":              "this machine",
		"https://a.LocalHost./":           "this machine",
		"https://bücher.example/":         "xn--",
		"https://a..example/":             "xn--",
		"https://./":                      "xn--",
		"https://a b.example/":            "https://host/path",
		"https://a.example/\n":            "https://host/path",
		"https://a.example/" + strings.Repeat("a", maxURLBytes): "2048 bytes",
	} {
		if err := (&Guard{}).CheckURL(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.80q %v", text, err)
		}
	}
	for _, text := range []string{"http://127.0.0.1:80/", "http://localhost/", "http://receiver.example/", "https://127.0.0.1/"} {
		if err := loopback.CheckURL(text); err != nil {
			t.Errorf("%s %v", text, err)
		}
	}
}

// What is taken can be sent to, by TLS, at one host; and a host that is an address is a public one.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{
		"https://receiver.example:8443/hook?a=b", "https://[::ffff:127.0.0.1]/", "https://0x7f.1/", "https://a@b/", "https://1.1.1.1.:1", "https://[fe80::1%25a]/",
		"https://xn--a/%2e%2e//b", "https://a.example\\@b/", "https://a#b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if (&Guard{}).CheckURL(text) != nil {
			return
		}
		request, err := http.NewRequest(http.MethodPost, text, nil)
		if err != nil {
			t.Fatalf("%q is taken: %v", text, err)
		}
		again, err := url.Parse(request.URL.String())
		if err != nil || again.Host != request.URL.Host || again.Scheme != "https" || again.User != nil {
			t.Errorf("%q is %v, and then %v; %v", text, request.URL, again, err)
		}
		host := request.URL.Hostname()
		if address, err := netip.ParseAddr(host); err == nil && (&Guard{}).check(address, false) != nil {
			t.Errorf("%q leads to %v", text, address)
		}
		if strings.ContainsAny(host, "/\\@#?\x00 \r\n") {
			t.Errorf("%q has the host %q", text, host)
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
			t.Errorf("%q leads to this machine", text)
		}
	})
}
