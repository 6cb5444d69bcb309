//! A bad neighbour: one key floods, dawdles and bombs, and another one does not notice.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use e2e::{
    chance::duration,
    neighbour::{Key, Mischief, Neighbour, p99},
    process::{Memory, Site},
};
use tokio_util::sync::CancellationToken;

/// Bytes that the server may take, store and log included.
const MEMORY: u64 = 400_000_000;
/// What any answer may take here, where a machine may be busy with other tests; `bench neighbour`
/// compares the times.
const PATIENCE: Duration = Duration::from_secs(5);

/// Insists that `/readyz` keeps saying yes.
async fn stay_ready(site: &Site, stop: &CancellationToken) -> u32 {
    let url = format!("http://{}/readyz", site.admin);
    let mut asked = 0;
    while !stop.is_cancelled() {
        let answer = reqwest::Client::new().get(&url).timeout(PATIENCE).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        asked += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_bad_neighbour_then_another_key_is_served_and_memory_stays_bounded() {
    let (good, bad) = (Key::new("good"), Key::new("bad"));
    let keys = format!("{}{}rate = {{ events = 100 }}\n", good.table, bad.table);
    let site = Site::new(&keys).unwrap();
    let node = site.start().await.unwrap();
    let alone = good.post_steadily(site.http, "alone", Duration::from_secs(3), PATIENCE).await;
    let alone = alone.unwrap();

    let time = duration(Duration::from_secs(12));
    let stop = CancellationToken::new();
    let neighbour = Neighbour { http: site.http, key: bad.secret.clone() };
    // Among the others most find the budget spent, or the rate; this one is unfolded in any case.
    assert_eq!(neighbour.one_bomb().await.unwrap(), 413);
    let mischief = Mischief { slow: 2000, flood: 1000, bombs: 100, bulky: 8 };
    let (beside, ready, answers) = tokio::join!(
        async {
            let beside = good.post_steadily(site.http, "beside", time, PATIENCE).await;
            stop.cancel();
            beside.unwrap()
        },
        stay_ready(&site, &stop),
        neighbour.misbehave(mischief, stop.clone()),
    );
    let answers = answers.unwrap();
    let most = Memory::of(node.pid().unwrap()).unwrap().peak;
    eprintln!(
        "p99 {:?} alone ({}), {:?} beside it ({}); {} bytes at most; ready {ready} times; {answers:?}",
        p99(&alone),
        alone.len(),
        p99(&beside),
        beside.len(),
        most
    );
    let of = |kind: &str, status: u16| {
        answers.iter().filter(|((k, s), _)| *k == kind && *s == status).map(|(_, n)| n).sum::<u64>()
    };
    assert!(of("flood", 202) > 0 && of("flood", 429) > of("flood", 202), "{answers:?}");
    assert_eq!(of("bomb", 202) + of("bomb", 500) + of("bomb", 0), 0, "{answers:?}");
    assert!(most < MEMORY, "{most} bytes");
    assert!(!node.said().contains("panicked"), "{}", node.said());
    node.stop().await.unwrap();
}
