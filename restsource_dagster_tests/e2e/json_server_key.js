// Middleware of json-server: asks for a key and writes every request to standard output.
module.exports = (request, response, next) => {
  if (request.get("X-Api-Key") !== process.env.API_KEY) {
    response.status(401).json({ error: "a valid X-Api-Key is required" });
    return;
  }
  if (request.method === "GET") {
    process.stdout.write(`${JSON.stringify(request.query)}\n`);
  }
  next();
};
