// Package example is what all Go examples share: settings from the environment, the work, a
// clean stop.
package example

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Env is what the environment says, or otherwise.
func Env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// Latest tells where a partition without an offset starts.
func Latest() bool {
	return Env("TALLY_RESET", "earliest") == "latest"
}

// settings are the arguments of the form name=value that this client has options for.
func settings() (options []kgo.Opt) {
	for _, arg := range os.Args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		ms, err := strconv.Atoi(value)
		duration := time.Duration(ms) * time.Millisecond
		switch {
		case err == nil && name == "heartbeat.interval.ms":
			options = append(options, kgo.HeartbeatInterval(duration))
		case err == nil && name == "auto.commit.interval.ms":
			options = append(options, kgo.AutoCommitInterval(duration))
		case value != "":
			fmt.Fprintf(os.Stderr, "setting %s: not known here\n", arg)
			os.Exit(2)
		}
	}
	return options
}

// Context ends at SIGTERM or SIGINT.
func Context() context.Context {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	return ctx
}

// Client is a group consumer with the options that all examples have, and more.
func Client(more ...kgo.Opt) *kgo.Client {
	reset := kgo.NewOffset().AtStart()
	if Latest() {
		reset = kgo.NewOffset().AtEnd()
	}
	options := append([]kgo.Opt{
		kgo.SeedBrokers(Env("TALLY_BOOTSTRAP", "127.0.0.1:9092")),
		kgo.ConsumerGroup(Env("TALLY_GROUP", "example")),
		kgo.ConsumeTopics(Env("TALLY_TOPIC", "example")),
		kgo.ClientID(Env("TALLY_INSTANCE", "example")),
		kgo.ConsumeResetOffset(reset),
	}, more...)
	options = append(options, settings()...)
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
	ms, _ := strconv.ParseFloat(Env("TALLY_WORK_MS", "2"), 64)
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
