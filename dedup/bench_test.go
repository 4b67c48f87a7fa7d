package dedup_test

import (
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

// BenchmarkMiddleware is what one fresh event costs beyond the handler, without a
// Router.
func BenchmarkMiddleware(b *testing.B) {
	ledger := dedup.NewLedgerStrategy(memory.New(memory.Config{}), &publications{}, quiet)
	defer ledger.Close()
	for name, strategy := range map[string]dedup.Strategy{"plain": dedup.Plain{}, "ledger": ledger} {
		b.Run(name, func(b *testing.B) {
			middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
			if err != nil {
				b.Fatal(err)
			}
			handle := middleware.Wrap(func(*message.Message) ([]*message.Message, error) { return nil, nil })
			payload := make([]byte, 1024)
			messages := make([]*message.Message, 0, 1<<16)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if len(messages) == 0 {
					b.StopTimer()
					for j := range 1 << 16 {
						messages = append(messages, message.NewMessage(fmt.Sprintf("%d-%d", i, j), payload))
					}
					b.StartTimer()
				}
				msg := messages[len(messages)-1]
				messages = messages[:len(messages)-1]
				if _, err := handle(msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
