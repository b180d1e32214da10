async def test_index_leads_a_browser_to_the_console(serving):
    accept = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for method in ("GET", "HEAD"):
        response = await serving.client.request(method, "/", headers=accept)
        assert (response.status_code, response.headers["location"]) == (307, "console")
        assert response.headers["vary"] == "Accept"

    page = await serving.client.get("/", headers=accept, follow_redirects=True)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_index_tells_programs_what_there_is(serving):
    response = await serving.client.get("/", headers={"accept": "*/*"})

    document = response.json()
    assert (response.status_code, document["model"], response.headers["vary"]) == (200, "test-model", "Accept")
    assert document["operations"]["POST /classify"] == "Classify one image or several"
    for name in ("console", "docs", "description"):
        assert (await serving.client.get("/" + document[name])).status_code == 200
