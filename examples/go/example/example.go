// Package example is what all Go examples share: settings from the environment, the work, a
// clean stop.
package example

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// Context ends at SIGTERM or SIGINT.
func Context() context.Context {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	return ctx
}

// Client is a group consumer with the options that all examples have, and more.
func Client(more ...kgo.Opt) *kgo.Client {
	reset := kgo.NewOffset().AtStart()
	if env("TALLY_RESET", "earliest") == "latest" {
		reset = kgo.NewOffset().AtEnd()
	}
	options := append([]kgo.Opt{
		kgo.SeedBrokers(env("TALLY_BOOTSTRAP", "127.0.0.1:9092")),
		kgo.ConsumerGroup(env("TALLY_GROUP", "example")),
		kgo.ConsumeTopics(env("TALLY_TOPIC", "example")),
		kgo.ClientID(env("TALLY_INSTANCE", "example")),
		kgo.ConsumeResetOffset(reset),
	}, more...)
	client, err := kgo.NewClient(options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return client
}

// Poll returns what has been fetched; errors are printed.
func Poll(ctx context.Context, client *kgo.Client, max int) kgo.Fetches {
	fetches := client.PollRecords(ctx, max)
	fetches.EachError(func(topic string, partition int32, err error) {
		if ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "consume %s/%d: %v\n", topic, partition, err)
		}
	})
	return fetches
}

// Work takes TALLY_WORK_MS.
func Work() {
	ms, _ := strconv.ParseFloat(env("TALLY_WORK_MS", "2"), 64)
	time.Sleep(time.Duration(ms * float64(time.Millisecond)))
}

// Show prints that the work on a record is done.
func Show(r *kgo.Record) {
	fmt.Printf("%s/%d/%d %s\n", r.Topic, r.Partition, r.Offset, r.Key)
}

// Warn prints an error, if it is one.
func Warn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "commit:", err)
	}
}
