// Work first, commit after, from time to time; nothing is done when partitions are taken away,
// so a rebalance repeats the records worked on since the last commit.
package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
	"tally/examples/example"
)

const commitEvery = 20

func main() {
	ctx := example.Context()
	client := example.Client(kgo.DisableAutoCommit())
	defer client.Close()
	count := 0
	for ctx.Err() == nil {
		for _, r := range example.Poll(ctx, client, 0).Records() {
			example.Work()
			example.Show(r)
			if count++; count%commitEvery == 0 {
				example.Warn(client.CommitRecords(context.Background(), r))
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}
