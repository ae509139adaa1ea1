// Commit first, work after: at most once. What is in hand when the process dies is missed.
package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
	"tally/examples/example"
)

func main() {
	ctx := example.Context()
	client := example.Client(kgo.DisableAutoCommit())
	defer client.Close()
	for ctx.Err() == nil {
		records := example.Poll(ctx, client, 20).Records()
		if len(records) == 0 {
			continue
		}
		example.Warn(client.CommitRecords(context.Background(), records...))
		for _, r := range records {
			example.Work()
			example.Show(r)
		}
	}
}
