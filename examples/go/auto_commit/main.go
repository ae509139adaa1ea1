// The client commits by itself, every 5 s, what earlier polls returned (not the last one).
package main

import "tally/examples/example"

func main() {
	ctx := example.Context()
	client := example.Client()
	defer client.Close()
	for ctx.Err() == nil {
		fetches := example.Poll(ctx, client, 0)
		for _, r := range fetches.Records() {
			example.Work()
			example.Show(r)
			if ctx.Err() != nil {
				return
			}
		}
	}
}
