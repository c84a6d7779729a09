/** Five seconds are too few for a unit test on a machine that has other things to do; `testTimeout` of a project is not heard. */
jest.setTimeout(30_000);
