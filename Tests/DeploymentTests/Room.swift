// Tests of Deployment.
