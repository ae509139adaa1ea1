#pragma once
// The only way another thread reaches the loop: letters with a function to run there. In the
// simulator there is one thread and the scheduler decides when a letter arrives.

struct net;
struct mailbox;

struct mail {
    struct mail *next;
    void (*run)(struct mail *m); // on the loop's thread; may free the letter
};

struct mailbox *mailbox_new(struct net *n); // its letters run inside net_run_once()
void mailbox_free(struct mailbox *mb);      // letters that were not run are dropped

// From any thread. In order for one sender. The letter is the mailbox's until it is run.
void mailbox_post(struct mailbox *mb, struct mail *m);
