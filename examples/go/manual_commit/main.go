// Work first, commit after. Rebalances wait until what a poll returned is worked on and committed
// (BlockRebalanceOnPoll), so nothing is left to commit when partitions are given away. At least
// once: a crash repeats the records worked on since the last commit.
package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
	"tally/examples/example"
)

const commitEvery = 20

func main() {
	ctx := example.Context()
	client := example.Client(kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll())
	defer client.CloseAllowingRebalance()
	for ctx.Err() == nil {
		var done []*kgo.Record
		for _, r := range example.Poll(ctx, client, commitEvery).Records() {
			example.Work()
			example.Show(r)
			done = append(done, r)
		}
		if len(done) > 0 {
			example.Warn(client.CommitRecords(context.Background(), done...))
		}
		client.AllowRebalance()
	}
}
