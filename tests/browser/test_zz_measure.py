import json, time
import pytest
from uuid import uuid4
from tests.browser.test_console import *
from tests.large_case import fill_case
pytestmark = pytest.mark.asyncio(loop_scope="package")

async def test_large(office, browser):
    ids = [f"m-{i}" for i in range(1000)]
    t=time.perf_counter()
    assert (await office.register("T-large", *ids)).status == 201
    print("registered", time.perf_counter()-t)
    await office.sql("""
      INSERT INTO receipt (check_in_id, iss, person_id, idempotency_key, body_digest, challenge_id, task_id, received_at, answer)
      SELECT gen_random_uuid(), 'i', 'm-'||(g%1000), g::text, ''::bytea, gen_random_uuid(), 'T-large', now() - g * interval '1 second', '{}'
      FROM generate_series(1,10000) g""")
    await office.sql("""
      INSERT INTO attempt (check_in_id, task_id, person_id, received_at, shanghai_day, outcome, reasons, counted, fence_version, zone, distance_m, r95_m, device)
      SELECT check_in_id, task_id, person_id, received_at, (received_at AT TIME ZONE 'Asia/Shanghai')::date, 'rejected', '{outside_geofence}', true, 1, 'outside', 300, 25,
      json_build_object('platform','android','model','P'||(row_number() over () % 9))
      FROM receipt WHERE task_id='T-large'""")
    await office.sql("""
      INSERT INTO task SELECT 'N'||g, 'CASE'||g, 1, flow, null, uscc, enterprise_name, requirement, registration_digest, registered_at, opens_at, closes_at + (g%20)* interval '1 day', window_basis, start_day, nominal_day, last_day + (g%20), rolled_over, provisional, calendar_version, null, null, null, null, 1
      FROM task, generate_series(1,10000) g WHERE task_id='T-large'""")
    await office.sql("INSERT INTO fence_version SELECT t.task_id, 1, f.effective_at, f.registered_address, f.frame, f.fence, f.buffer_m FROM task t, fence_version f WHERE f.task_id='T-large' AND t.task_id LIKE 'N%'")
    await office.sql("INSERT INTO member SELECT t.task_id, m.person_id, m.position, m.name, m.categories, m.technical_lead FROM task t, member m WHERE m.task_id='T-large' AND t.task_id LIKE 'N%' AND m.position < 6")
    await office.sql("ANALYZE")
    for params in ({}, {"order":"risk"}, {"q":"CASE77"}, {"in_review":"true"}, {"within_days":"3","order":"risk"},{"window":"all","order":"risk"}):
        for _ in range(2):
            t=time.perf_counter()
            r=await office.call("GET","/v1/tasks",REVIEWER,"review",params={"limit":"50",**params})
            dt=time.perf_counter()-t
        print(params, r.status, len(r.body["tasks"]), round(dt*1000), "ms")
    for path in ("/v1/tasks/T-large","/v1/tasks/T-large/registration","/v1/tasks/T-large/attempts?limit=100","/v1/tasks/T-large/statistics","/v1/tasks/T-large/why-not"):
        for _ in range(2):
            t=time.perf_counter(); r=await office.call("GET",path,REVIEWER,"review"); dt=time.perf_counter()-t
        print(path, r.status, round(dt*1000), "ms")
    async with console(browser, office) as page:
        await page.until("document.querySelector('[data-task-row]')")
        t=time.perf_counter()
        await page.go("/console/")
        await page.until("document.querySelector('[data-task-row]')")
        print("list", round((time.perf_counter()-t)*1000),"ms")
        await page.run("(() => { const i = document.querySelector('[name=q]'); i.value='T-large'; i.form.requestSubmit(); })()")
        await page.until("document.querySelector('[data-task=\"T-large\"]')")
        for _ in range(3):
            t=time.perf_counter()
            await click(page, "[data-task='T-large']")
            await page.until("document.querySelectorAll('[data-attempt-row]').length === 100")
            print("case", round((time.perf_counter()-t)*1000),"ms")
            await click(page, "[data-part=members]")
            t=time.perf_counter()
            await page.until("document.querySelectorAll('#members tbody tr').length === 50")
            print("members", round((time.perf_counter()-t)*1000),"ms")
            await page.screenshot("console-large")
            await press(page, "1")
            await page.until("document.querySelector('[data-task=\"T-large\"]')")
        await press(page, "3")
        await page.until("document.querySelector('#hours')")
        await page.screenshot("console-statistics")
