package telemetry

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// Storage are metrics of tenants' files.
type Storage struct{ files, bytes prometheus.Gauge }

// ReportStorage adds gateway_stored_files, gateway_stored_bytes, and gateway_storage_free_bytes, which asks free at each scrape.
func (m *Metrics) ReportStorage(free func() (int64, error)) *Storage {
	storage := &Storage{
		files: prometheus.NewGauge(prometheus.GaugeOpts{Name: "gateway_stored_files", Help: "Files of all tenants, counted once a minute."}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_stored_bytes", Help: "Bytes of the files of all tenants, as they count for these, counted once a minute.",
		}),
	}
	m.registry.MustRegister(storage.files, storage.bytes, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_storage_free_bytes", Help: "Bytes that are free on the file system of files' contents; NaN if that is not known.",
	}, func() float64 {
		bytes, err := free()
		if err != nil {
			return math.NaN()
		}
		return float64(bytes)
	}))
	return storage
}

// Stored takes what the files of all tenants come to.
func (s *Storage) Stored(files, bytes int64) {
	s.files.Set(float64(files))
	s.bytes.Set(float64(bytes))
}
