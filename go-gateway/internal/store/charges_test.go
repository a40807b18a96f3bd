package store

import (
	"database/sql"
	"fmt"
	"testing"
)

func TestChargesAreWrittenOnceAndForgottenOnceTheyAreSettled(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Gateway)
		add := func(c Charge) error {
			return s.write(t.Context(), func(tx *sql.Tx) error { return s.addCharge(t.Context(), tx, c) })
		}
		for i, tokens := range []int64{5, 0, 7, 9} {
			if err := add(Charge{ID: fmt.Sprint("w/", i), Tenant: "acme", Key: "k", Class: "batch", Tokens: tokens}); err != nil {
				t.Fatal(err)
			}
		}
		if err := add(Charge{ID: "w/0", Tenant: "acme", Tokens: 1}); err == nil {
			t.Error("charged twice")
		}
		found, err := s.UnsettledCharges(t.Context(), 2)
		if err != nil || len(found) != 2 || found[0].ID != "w/0" || found[1].ID != "w/2" {
			t.Fatal(found, err)
		}
		if c := found[0]; c.Tenant != "acme" || c.Key != "k" || c.Class != "batch" || c.Tokens != 5 || c.Day < 20_000 {
			t.Errorf("%+v", c)
		}
		for range 2 {
			if err := s.SettleCharges(t.Context(), found); err != nil {
				t.Fatal(err)
			}
		}
		left, err := s.UnsettledCharges(t.Context(), 10)
		if err != nil || len(left) != 1 || left[0].ID != "w/3" {
			t.Error(left, err)
		}
		today, err := s.TodaysCharges(t.Context(), "w/0", 10)
		if err != nil || len(today) != 2 || today[0].ID != "w/2" {
			t.Error(today, err)
		}
		prune := func(most, expected int) {
			t.Helper()
			if pruned, err := s.PruneCharges(t.Context(), most); err != nil || pruned != expected {
				t.Errorf("%d were pruned, %v", pruned, err)
			}
		}
		prune(10, 0)
		execute(t, s, `UPDATE charge SET day = day - 2`)
		if today, err = s.TodaysCharges(t.Context(), "", 10); err != nil || len(today) != 0 {
			t.Error(today, err)
		}
		prune(1, 1)
		prune(10, 1) // and what is not settled stays
		prune(10, 0)
	})
}
