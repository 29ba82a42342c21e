//! DogStatsD as an agent sees it. The recorder is the process's: everything is one test.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{collections::BTreeSet, time::Duration};

use metrics::{counter, gauge, histogram};
use taskbroker_telemetry::{Metrics, StatsdOptions};
use tokio::{net::UdpSocket, time::timeout};
use tokio_util::sync::CancellationToken;

/// Reads until all these lines have come, whatever comes besides.
async fn await_lines(agent: &UdpSocket, wanted: &[&str]) {
    let mut missing: BTreeSet<&str> = wanted.iter().copied().collect();
    let mut came = Vec::new();
    let mut buffer = vec![0; 65_536];
    while !missing.is_empty() {
        let received = timeout(Duration::from_secs(30), agent.recv(&mut buffer)).await;
        let length = received.unwrap_or_else(|_| panic!("{missing:?} did not come, but {came:?}")).unwrap();
        assert!(length <= 1024, "a datagram of {length} bytes");
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        missing.retain(|wanted| !text.lines().any(|line| line == *wanted));
        came.extend(text.lines().map(str::to_owned));
    }
}

#[tokio::test]
async fn an_agent_receives_names_types_and_tags_as_the_existing_system_sends_them() {
    let agent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut options = StatsdOptions::new(format!("localhost:{}", agent.local_addr().unwrap().port()));
    options.tags.insert("region".to_owned(), "eu".to_owned());
    options.interval = Duration::from_millis(50);
    let metrics = Metrics::install("test", Some(options)).unwrap();
    metrics.refresh_with(|| gauge!("taskbroker_depth", "state" => "pending").set(7.0));

    let reports = counter!("taskbroker_reports_total", "verdict" => "complete", "answer" => "settled");
    let requests = histogram!("taskbroker_grpc_request_seconds", "method" => "GetTask");
    let stop = CancellationToken::new();
    let running = tokio::spawn(metrics.clone().run(stop.clone()));
    // Until the agent's address of the right kind is tried, datagrams may be lost: a gauge is sent again and again.
    let depth = "taskbroker.upkeep.current_pending_tasks:7|g|#region:eu,topic:taskworker,partition:-1";
    await_lines(&agent, &[depth]).await;
    reports.increment(3);
    requests.record(0.25);
    let path = "path:/sentry_protos.taskbroker.v1.ConsumerService/GetTask";
    await_lines(
        &agent,
        &[
            "taskbroker.grpc_server.set_status:3|c|#region:eu,result:ok,status:complete",
            &format!("taskbroker.grpc.request.duration:0.25|h|#region:eu,{path}"),
            "taskbroker.grpc_server.get_task.duration:0.25|h|#region:eu",
        ],
    )
    .await;

    // Both see the same; and what was counted last is sent at the end.
    let rendered = metrics.render();
    assert!(rendered.contains(r#"taskbroker_reports_total{verdict="complete",answer="settled"} 3"#), "{rendered}");
    assert!(rendered.contains(r#"taskbroker_depth{state="pending"} 7"#), "{rendered}");
    stop.cancel();
    counter!("taskbroker_records_total", "topic" => "t", "kind" => "expired").increment(5);
    running.await.unwrap();
    await_lines(&agent, &["taskbroker.filter.expired_at_consumer:5|c|#region:eu,topic:t"]).await;
}
