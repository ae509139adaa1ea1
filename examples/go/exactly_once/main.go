// The offset is kept where the result is: both in one SQLite transaction. Nothing is missed and
// nothing repeated, whatever dies when. The offset in the database is also the fence: a copy that
// has lost its partition finds that somebody else moved it, and lets go.
package main

import (
	"context"
	"database/sql"
	"log"
	"os"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	_ "modernc.org/sqlite"
	"tally/examples/example"
)

const schema = `
CREATE TABLE IF NOT EXISTS offsets (consumer_group TEXT, topic TEXT, partition INTEGER,
    next_offset INTEGER, PRIMARY KEY (consumer_group, topic, partition));
CREATE TABLE IF NOT EXISTS results (topic TEXT, partition INTEGER, record_offset INTEGER,
    key TEXT, instance TEXT);`

// What stands for the ends of a partition whose first record is not stored yet.
const atEnd, atStart = -1, -2

type partition struct {
	topic string
	id    int32
}

type store struct {
	db    *sql.DB
	group string
	mutex sync.Mutex
	owned map[partition]int64 // the position, as it stands in the database
}

func must(err error) {
	if err != nil {
		log.Fatal("sqlite: ", err)
	}
}

func open() *store {
	file := example.Env("TALLY_DB", "results.db")
	for _, arg := range os.Args[1:] {
		if !strings.Contains(arg, "=") {
			file = arg
		}
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=busy_timeout(10000)"+
		"&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	must(err)
	db.SetMaxOpenConns(1)
	_, err = db.Exec(schema)
	must(err)
	return &store{db: db, group: example.Env("TALLY_GROUP", "example"),
		owned: map[partition]int64{}}
}

// stored is where to start; a partition never seen starts where TALLY_RESET says.
func (s *store) stored(p partition) (next int64) {
	start := atStart
	if example.Latest() {
		start = atEnd
	}
	_, err := s.db.Exec("INSERT OR IGNORE INTO offsets VALUES (?, ?, ?, ?)",
		s.group, p.topic, p.id, start)
	must(err)
	must(s.db.QueryRow("SELECT next_offset FROM offsets WHERE consumer_group = ? AND topic = ?"+
		" AND partition = ?", s.group, p.topic, p.id).Scan(&next))
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.owned[p] = next
	return next
}

// adjust replaces the offsets that the broker keeps by ours, at each assignment.
func (s *store) adjust(_ context.Context, offsets map[string]map[int32]kgo.Offset) (
	map[string]map[int32]kgo.Offset, error) {
	for topic, partitions := range offsets {
		for id := range partitions {
			partitions[id] = kgo.NewOffset()
			switch next := s.stored(partition{topic, id}); next {
			case atStart:
				partitions[id] = kgo.NewOffset().AtStart()
			case atEnd:
				partitions[id] = kgo.NewOffset().AtEnd()
			default:
				partitions[id] = kgo.NewOffset().At(next)
			}
		}
	}
	return offsets, nil
}

func (s *store) forget(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for topic, ids := range gone {
		for _, id := range ids {
			delete(s.owned, partition{topic, id})
		}
	}
}

func (s *store) position(p partition) (next int64, is bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	next, is = s.owned[p]
	return next, is
}

// save stores result and offset. False: another copy has moved the offset.
func (s *store) save(r *kgo.Record, p partition, from int64) bool {
	tx, err := s.db.Begin()
	must(err)
	moved, err := tx.Exec("UPDATE offsets SET next_offset = ? WHERE consumer_group = ?"+
		" AND topic = ? AND partition = ? AND next_offset = ?",
		r.Offset+1, s.group, p.topic, p.id, from)
	must(err)
	if n, _ := moved.RowsAffected(); n == 0 {
		must(tx.Rollback())
		return false
	}
	_, err = tx.Exec("INSERT INTO results VALUES (?, ?, ?, ?, ?)", p.topic, p.id, r.Offset,
		string(r.Key), example.Env("TALLY_INSTANCE", "example"))
	must(err)
	must(tx.Commit())
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.owned[p] = r.Offset + 1
	return true
}

// handle works on what one poll gave of a partition, and stops where another copy was here.
func (s *store) handle(client *kgo.Client, p partition, records []*kgo.Record) {
	for _, r := range records {
		from, is := s.position(p)
		if !is || r.Offset < from {
			continue
		}
		example.Work()
		if !s.save(r, p, from) {
			if next := s.stored(p); next >= 0 {
				client.SetOffsets(map[string]map[int32]kgo.EpochOffset{
					p.topic: {p.id: {Epoch: -1, Offset: next}}})
			}
			return
		}
		example.Show(r)
	}
}

func main() {
	s := open()
	defer s.db.Close()
	ctx := example.Context()
	client := example.Client(kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.AdjustFetchOffsetsFn(s.adjust), kgo.OnPartitionsRevoked(s.forget),
		kgo.OnPartitionsLost(s.forget))
	defer client.CloseAllowingRebalance()
	for ctx.Err() == nil {
		example.Poll(ctx, client, 20).EachPartition(func(f kgo.FetchTopicPartition) {
			s.handle(client, partition{f.Topic, f.Partition}, f.Records)
		})
		client.AllowRebalance()
	}
}
